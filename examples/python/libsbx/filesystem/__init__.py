"""Files of a sandbox."""

from .fileio import FileIO as FileIO
from .files import FileInfo as FileInfo, Filesystem as Filesystem, FileType as FileType
from .watching import FileWatchEvent as FileWatchEvent, FileWatchEventType as FileWatchEventType, Watch as Watch
