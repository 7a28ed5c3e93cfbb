package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"time"
	"unsafe"
)

// Files are a sandbox's files. Everything is done inside it, with the rights of its root or of [FileOptions].User; paths
// are absolute, and links lead where they lead inside. Errors unwrap to the sandbox's errno, so that
// errors.Is(err, fs.ErrNotExist) and the like answer. A context that ends gives an operation up; what was done so far
// stays done.
type Files struct{ sandbox *Sandbox }

// Files gives access to the sandbox's files.
func (s *Sandbox) Files() Files { return Files{s} }

// FileOptions say how an operation is done; nil is the default. What an operation has no use for is an error.
type FileOptions struct {
	User      string      // whose rights: "name", "uid", "uid:gid" or "name:group" (default root)
	Mode      fs.FileMode // of what is made (default 0644, of directories 0755)
	Offset    uint64      // where ReadFile and Download begin
	Limit     uint64      // the most bytes or entries (default 16 MiB for ReadFile and WriteFile, 100,000 for ReadDir)
	Parents   bool        // the directories above are made
	Exclusive bool        // what is there is an error
	Append    bool        // to the end of what is there
	Recursive bool        // Remove: with all below
	MissingOK bool        // Remove: that there is nothing is no error
	NoFollow  bool        // Stat: of a symbolic link, the link itself
	KeepOwner bool        // CopyIn: the archive's owners instead of root
}

// FileInfo is what a file is, as the sandbox says. It is an [fs.FileInfo].
type FileInfo struct {
	UID, GID, Links uint32
	Target          string // where a symbolic link leads

	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
}

func (i FileInfo) Name() string       { return i.name }
func (i FileInfo) Size() int64        { return i.size }
func (i FileInfo) Mode() fs.FileMode  { return i.mode }
func (i FileInfo) ModTime() time.Time { return i.modified }
func (i FileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i FileInfo) Sys() any           { return nil }

// The bits of modes that Go has elsewhere, and what kinds of files are in Go.
var (
	modeBits  = map[fs.FileMode]C.uint32_t{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000}
	fileKinds = map[C.uint32_t]fs.FileMode{
		C.SBX_FILE_KIND_FILE: 0, C.SBX_FILE_KIND_DIRECTORY: fs.ModeDir, C.SBX_FILE_KIND_SYMLINK: fs.ModeSymlink,
		C.SBX_FILE_KIND_FIFO: fs.ModeNamedPipe, C.SBX_FILE_KIND_SOCKET: fs.ModeSocket, C.SBX_FILE_KIND_DEVICE: fs.ModeDevice,
	}
)

// request is what C's functions that begin an operation on files take in common.
type request struct {
	common
	at      *C.char
	options *C.sbx_file_options
}

type starter func(request) C.int

func (f Files) begin(ctx context.Context, what, at string, given *FileOptions, begin starter) (*operation, error) {
	if given == nil {
		given = &FileOptions{}
	}
	var texts texts
	defer texts.free()
	options := C.sbx_file_options{size: C.sizeof_sbx_file_options, mode: C.uint32_t(given.Mode.Perm())}
	options.offset, options.limit = C.uint64_t(given.Offset), C.uint64_t(given.Limit)
	for ours, bit := range modeBits {
		if given.Mode&ours != 0 {
			options.mode |= bit
		}
	}
	for flag, asked := range map[C.uint32_t]bool{
		C.SBX_FILE_PARENTS: given.Parents, C.SBX_FILE_EXCLUSIVE: given.Exclusive, C.SBX_FILE_APPEND: given.Append,
		C.SBX_FILE_RECURSIVE: given.Recursive, C.SBX_FILE_MISSING_OK: given.MissingOK,
		C.SBX_FILE_NO_FOLLOW: given.NoFollow, C.SBX_FILE_KEEP_OWNER: given.KeepOwner,
	} {
		if asked {
			options.flags |= flag
		}
	}
	if given.User != "" {
		options.user = texts.text(given.User)
	}
	place := texts.text(at)
	if texts.bad != nil {
		return nil, texts.bad
	}
	return f.sandbox.operation(ctx, what, func(c common) C.int { return begin(request{c, place, &options}) })
}

// do does one to its end, and what take makes of it.
func (f Files) do(ctx context.Context, what, at string, o *FileOptions, begin starter, take func(*operation) error) error {
	defer runtime.KeepAlive(f.sandbox)
	op, err := f.begin(ctx, what, at, o, begin)
	if err != nil {
		return err
	}
	return op.do(ctx, take)
}

// info is an entry, under its own name if there is one.
func (o *operation) info(index C.size_t, name string) (FileInfo, error) {
	raw := C.sbx_file_entry{size: C.sizeof_sbx_file_entry}
	err := calling(o, "stat", func(e *C.sbx_error) C.int { return C.sbx_operation_entry(o.handle, index, &raw, e) })
	if own := C.GoString(raw.name); own != "" {
		name = own
	}
	kind, known := fileKinds[raw.kind]
	if !known {
		kind = fs.ModeIrregular
	}
	mode := kind | fs.FileMode(raw.mode)&fs.ModePerm
	for ours, bit := range modeBits {
		if raw.mode&bit != 0 {
			mode |= ours
		}
	}
	return FileInfo{
		UID: uint32(raw.user), GID: uint32(raw.group), Links: uint32(raw.links),
		Target: C.GoString(raw.target),
		name:   name, size: int64(raw.bytes), mode: mode, modified: time.Unix(0, int64(raw.modified_ns)),
	}, err
}

// ReadFile reads a file whole.
func (f Files) ReadFile(ctx context.Context, name string, o *FileOptions) (data []byte, err error) {
	err = f.do(ctx, "read file", name, o, func(r request) C.int {
		return C.sbx_file_read_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, func(op *operation) error {
		var length C.size_t
		bytes := C.sbx_operation_bytes(op.handle, &length)
		data = append([]byte{}, unsafe.Slice((*byte)(bytes), int(length))...)
		return nil
	})
	return data, err
}

// WriteFile writes a file whole, in place of what is there.
func (f Files) WriteFile(ctx context.Context, name string, data []byte, o *FileOptions) error {
	return f.do(ctx, "write file", name, o, func(r request) C.int {
		bytes, length := (*C.uint8_t)(unsafe.SliceData(data)), C.size_t(len(data)) // which are copied
		return C.sbx_file_write_begin(f.sandbox.handle, r.at, bytes, length, r.options, r.queue, r.cookie, r.op, r.failure)
	}, nil)
}

// ReadDir says what is in a directory, in no order.
func (f Files) ReadDir(ctx context.Context, name string, o *FileOptions) (entries []FileInfo, err error) {
	err = f.do(ctx, "read directory", name, o, func(r request) C.int {
		return C.sbx_file_list_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, func(op *operation) error {
		for index := range C.size_t(max(0, C.sbx_operation_count(op.handle))) {
			entry, err := op.info(index, "")
			if err != nil {
				return err
			}
			entries = append(entries, entry)
		}
		return nil
	})
	return entries, err
}

// Stat says what a path is.
func (f Files) Stat(ctx context.Context, name string, o *FileOptions) (info FileInfo, err error) {
	err = f.do(ctx, "stat", name, o, func(r request) C.int {
		return C.sbx_file_stat_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, func(op *operation) (err error) {
		info, err = op.info(0, path.Base(name))
		return err
	})
	return info, err
}

// Mkdir makes a directory. With Parents also those above, and that it is there is no error.
func (f Files) Mkdir(ctx context.Context, name string, o *FileOptions) error {
	return f.do(ctx, "make directory", name, o, func(r request) C.int {
		return C.sbx_file_make_directory_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, nil)
}

// Remove removes a file, a link or an empty directory; with Recursive also all below.
func (f Files) Remove(ctx context.Context, name string, o *FileOptions) error {
	return f.do(ctx, "remove", name, o, func(r request) C.int {
		return C.sbx_file_remove_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, nil)
}

// Rename renames over what is there, unless Exclusive, on the same file system.
func (f Files) Rename(ctx context.Context, from, to string, o *FileOptions) error {
	var texts texts
	defer texts.free()
	target := texts.text(to)
	if texts.bad != nil {
		return texts.bad
	}
	return f.do(ctx, "rename", from, o, func(r request) C.int {
		return C.sbx_file_rename_begin(f.sandbox.handle, r.at, target, r.options, r.queue, r.cookie, r.op, r.failure)
	}, nil)
}

// stream begins an operation with a stream, moves what goes through that, and waits until all was done. move says
// first what the caller's own side failed with. A context that ends doesn't end a caller's reader or writer that hangs.
func (f Files) stream(
	ctx context.Context, what, at string, o *FileOptions, begin starter, move func(*os.File) (own, other error),
) error {
	defer runtime.KeepAlive(f.sandbox)
	op, err := f.begin(ctx, what, at, o, begin)
	if err != nil {
		return err
	}
	defer op.free()
	file, err := opened(what, func(e *C.sbx_error) C.int { return C.sbx_operation_open_fd(op.handle, e) })
	if err != nil {
		return err
	}
	defer file.Close()
	ended := make(chan error, 1)
	go func() {
		err := op.wait(ctx)
		if err != nil { // the sandbox has the other end, and need not close it
			_ = file.SetDeadline(time.Unix(1, 0))
		}
		ended <- err
	}()
	own, other := move(file)
	if own != nil || other != nil { // an input that ended here would be taken for a whole one
		C.sbx_operation_cancel(op.handle, nil)
	}
	file.Close()
	err = <-ended
	switch {
	case own != nil:
		return own
	case err != nil:
		return err
	}
	return other
}

// send moves what a reader gives.
func send(from io.Reader) func(*os.File) (own, other error) {
	return func(to *os.File) (error, error) {
		reader := &noted{Reader: from}
		_, err := io.Copy(to, reader)
		return reader.err, err
	}
}

// receive moves what a sandbox gives to a writer, and no more than the limit: the sandbox may not hold that.
func receive(to io.Writer, o *FileOptions) func(*os.File) (own, other error) {
	return func(from *os.File) (error, error) {
		writer, source := &noted{Writer: to}, io.Reader(from)
		if o != nil && o.Limit > 0 {
			source = &limited{from, o.Limit}
		}
		_, err := io.Copy(writer, source)
		return writer.err, err
	}
}

// noted keeps what its reader or writer failed with.
type noted struct {
	io.Reader
	io.Writer
	err error
}

func (n *noted) note(count int, err error) (int, error) {
	if err != nil && err != io.EOF {
		n.err = err
	}
	return count, err
}
func (n *noted) Read(p []byte) (int, error)  { return n.note(n.Reader.Read(p)) }
func (n *noted) Write(p []byte) (int, error) { return n.note(n.Writer.Write(p)) }

// limited fails where there is more than the limit.
type limited struct {
	from io.Reader
	left uint64
}

func (l *limited) Read(p []byte) (int, error) {
	count, err := l.from.Read(p)
	if uint64(count) > l.left {
		return int(l.left), failed("receive", ErrLimit, "the sandbox sent more than the limit")
	}
	l.left -= uint64(count)
	return count, err
}

// Download copies a file of any size to a writer.
func (f Files) Download(ctx context.Context, name string, to io.Writer, o *FileOptions) error {
	return f.stream(ctx, "download", name, o, func(r request) C.int {
		return C.sbx_file_download_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, receive(to, o))
}

// Upload copies what a reader gives to a file, in place of what is there.
func (f Files) Upload(ctx context.Context, name string, from io.Reader, o *FileOptions) error {
	return f.stream(ctx, "upload", name, o, func(r request) C.int {
		return C.sbx_file_upload_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, send(from))
}

// CopyOut writes a file or tree as a tar archive. The sandbox made it: unpack it as you would a stranger's.
func (f Files) CopyOut(ctx context.Context, name string, to io.Writer, o *FileOptions) error {
	return f.stream(ctx, "copy out", name, o, func(r request) C.int {
		return C.sbx_file_copy_out_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, receive(to, o))
}

// CopyIn unpacks a tar archive into a directory.
func (f Files) CopyIn(ctx context.Context, name string, from io.Reader, o *FileOptions) error {
	return f.stream(ctx, "copy in", name, o, func(r request) C.int {
		return C.sbx_file_copy_in_begin(f.sandbox.handle, r.at, r.options, r.queue, r.cookie, r.op, r.failure)
	}, send(from))
}
