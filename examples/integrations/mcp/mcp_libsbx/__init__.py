"""An MCP server on stdio that runs programs in a libsbx sandbox: python3 -m mcp_libsbx --help."""

from .server import serve as serve
