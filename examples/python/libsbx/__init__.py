"""gVisor sandboxes inside your own process, under the names of Modal's Sandboxes.

    import urllib.request, libsbx as sbx

    with sbx.Sandbox.create("python3", "-m", "http.server", "12345", encrypted_ports=[12345]) as sb:
        tunnel = sb.tunnels()[12345]
        sb.wait_until_ready()
        print(urllib.request.urlopen(tunnel.url, context=tunnel.ssl_context()).read().decode())

A package over ctypes: no compiler, nothing but the standard library. Every method that waits has two forms: the plain
one, and `.aio` for asyncio (`await sb.wait.aio()`), on any event loop and in any thread. README.md beside this
directory says which of Modal's parameters work.
"""

from .checks import Finding as Finding, Report as Report, doctor as doctor, log_to as log_to
from .config import App as App, EgressLimits as EgressLimits, Probe as Probe, Secret as Secret
from .exception import *
from .filesystem import FileIO as FileIO, FileInfo as FileInfo, Filesystem as Filesystem, FileType as FileType
from .filesystem import FileWatchEvent as FileWatchEvent, FileWatchEventType as FileWatchEventType, Watch as Watch
from .image import Image as Image, ImageInfo as ImageInfo, enable_output as enable_output
from .policy import Denial as Denial, NetworkPolicy as NetworkPolicy, PolicyReason as PolicyReason
from .policy import Verdict as Verdict, check_network_policy as check_network_policy
from .process import ContainerProcess as ContainerProcess
from .sandbox import Sandbox as Sandbox
from .stats import SandboxStats as SandboxStats
from .streams import Capture as Capture, Captured as Captured
from .streams import StreamReader as StreamReader, StreamType as StreamType, StreamWriter as StreamWriter
from .trust import ca_bundle as ca_bundle
from .tunnels import Tunnel as Tunnel
from .volume import Volume as Volume, VolumeInfo as VolumeInfo
from .warm import (
    WarmStats as WarmStats,
    keep_warm as keep_warm,
    max_starts as max_starts,
    set_max_starts as set_max_starts,
    set_spares as set_spares,
    spares as spares,
    warm_stats as warm_stats,
)

#: Whether the first encrypted tunnel sets REQUESTS_CA_BUNDLE, unless the environment says already whom to trust. With it,
#: requests trusts every live sandbox of this process: tell them apart by verify=tunnel.ca_bundle().
trust_in_environment = True
