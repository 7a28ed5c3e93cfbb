package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"time"
)

// ImageInfo is what is known of an image in the store.
type ImageInfo struct {
	ID                string   // "sha256:" and 64 hexadecimal digits
	Tags              []string // its names
	Source            string   // where it came from, for people
	Size              uint64   // bytes in the store
	Created, LastUsed time.Time
}

// An Image is a root file system with its settings: [Config].Image. It doesn't change, and stays usable while it is
// open or a sandbox has it, also when it is removed from the store. It has one descriptor, until its Close.
type Image struct {
	ImageInfo
	// Config is its settings: the JSON of the OCI image specification (Entrypoint, Cmd, Env, User …).
	Config json.RawMessage

	handle *C.sbx_image
	closed moment
}

// Close frees it. The image stays in the store.
func (i *Image) Close() error {
	if i.closed.Err() != nil {
		return failed("close", ErrHandle, "image %s was closed before", i.ID)
	}
	i.closed.comes()
	C.sbx_image_free(i.handle)
	return nil
}

// mount shows its files in a sandbox. Without an image the library says so.
func (i *Image) mount(config *C.sbx_config, target *C.char) C.int {
	defer runtime.KeepAlive(i)
	if i == nil {
		return C.sbx_config_add_image_mount(config, nil, target)
	}
	return C.sbx_config_add_image_mount(config, i.handle, target)
}

// ImageFormat is what is imported.
type ImageFormat int

// The formats.
const (
	ImageAuto      ImageFormat = C.SBX_IMAGE_FORMAT_AUTO      // it is found out
	ImageOCI       ImageFormat = C.SBX_IMAGE_FORMAT_OCI       // an OCI layout: a directory, or a tar archive of it
	ImageDocker    ImageFormat = C.SBX_IMAGE_FORMAT_DOCKER    // an archive of docker save
	ImageTarball   ImageFormat = C.SBX_IMAGE_FORMAT_TARBALL   // a tar archive of a root file system
	ImageDirectory ImageFormat = C.SBX_IMAGE_FORMAT_DIRECTORY // a directory that is one
)

// ImageOptions say how an image is pulled or imported; nil is the default. What one of them has no use for is an error.
type ImageOptions struct {
	Tag      string      // the name it is stored under (default the reference; an import's has none)
	Platform string      // "os/architecture" or "os/architecture/variant" (default this machine's)
	Format   ImageFormat // ImportImage: what it is
	Select   string      // ImportImage: which image, where there are several

	Username, Password string   // PullImage: of the registry (default as ~/.docker/config.json says)
	CAPEM              string   // PullImage: authorities beside the system's
	CredentialHelper   string   // PullImage: the absolute path of a docker credential helper
	Mirrors            []string // PullImage: "registry=host", asked first, in this order

	Limits ImageLimits

	// Progress is called with the bytes done and the bytes in all, at most ten times a second, from one goroutine, and
	// not any more once the call that it was given to has returned.
	Progress func(done, total uint64)
}

// ImageLimits are what an image may need; more is [ErrLimit]. 0 is the default.
type ImageLimits struct {
	Bytes   uint64 // of its files (default 16 GiB)
	Entries uint64 // files, directories, links (default 1,000,000)
	Ratio   uint64 // of a layer to its compressed size, beyond 16 MiB (default 200)
	Memory  uint64 // bytes for names and the like (default 512 MiB)
	Depth   uint32 // of directories (default 64)
	Layers  uint32 // (default 127)
}

// PullImage pulls an image from a registry into the store that all of the user's programs share. The reference is as
// docker has it: "python:3.12". What the store has already is not downloaded again. A context that ends gives it up, and
// nothing of it stays.
func PullImage(ctx context.Context, reference string, options *ImageOptions) (*Image, error) {
	return newImage(ctx, "pull", reference, options, func(t *texts, raw *C.sbx_image_options, c common) C.int {
		return C.sbx_image_pull_begin(nil, t.text(reference), raw, c.queue, c.cookie, c.op, c.failure)
	})
}

// ImportImage stores the image at a path: an OCI layout, an archive of docker save, a tar archive of a root file system,
// or a directory that is one. Archives may be compressed by gzip or zstd.
func ImportImage(ctx context.Context, path string, options *ImageOptions) (*Image, error) {
	return newImage(ctx, "import", path, options, func(t *texts, raw *C.sbx_image_options, c common) C.int {
		return C.sbx_image_import_begin(nil, t.text(path), -1, raw, c.queue, c.cookie, c.op, c.failure)
	})
}

// FindImage finds an image in the store by one of its names, its id, or at least 12 digits of it.
func FindImage(ctx context.Context, name string) (*Image, error) {
	return newImage(ctx, "find", name, nil, func(t *texts, _ *C.sbx_image_options, c common) C.int {
		return C.sbx_image_find_begin(nil, t.text(name), c.queue, c.cookie, c.op, c.failure)
	})
}

// SnapshotOptions say how a snapshot is taken; nil is the default.
type SnapshotOptions struct {
	Tag      string                   // the name it is stored under
	Progress func(done, total uint64) // as of [ImageOptions]
}

// Snapshot stores what a sandbox has in its root file system as a new image. It must have been created from one. Its
// programs are paused for a moment; /tmp, /dev/shm and mounts are not in it.
func (s *Sandbox) Snapshot(ctx context.Context, options *SnapshotOptions) (*Image, error) {
	defer runtime.KeepAlive(s)
	if options == nil {
		options = &SnapshotOptions{}
	}
	asked := &ImageOptions{Progress: options.Progress}
	return newImage(ctx, "snapshot", s.ID(), asked, func(t *texts, _ *C.sbx_image_options, c common) C.int {
		var tag *C.char
		if options.Tag != "" {
			tag = t.text(options.Tag)
		}
		return C.sbx_sandbox_snapshot_begin(s.handle, tag, c.queue, c.cookie, c.op, c.failure)
	})
}

// SnapshotDirectory stores a directory as a new image whose root it is: on any root file system, also in /tmp and in
// mounts. Programs go on meanwhile. Sockets, devices and what is mounted in it are left out.
func (s *Sandbox) SnapshotDirectory(ctx context.Context, path string, options *SnapshotOptions) (*Image, error) {
	defer runtime.KeepAlive(s)
	if options == nil {
		options = &SnapshotOptions{}
	}
	asked := &ImageOptions{Progress: options.Progress}
	return newImage(ctx, "snapshot", s.ID(), asked, func(t *texts, _ *C.sbx_image_options, c common) C.int {
		var tag *C.char
		if options.Tag != "" {
			tag = t.text(options.Tag)
		}
		return C.sbx_sandbox_snapshot_directory_begin(s.handle, t.text(path), tag, c.queue, c.cookie, c.op, c.failure)
	})
}

// CopyImage copies an image's files into a directory, which is made if it is missing. It counts as what the sandbox has
// written; an image that is known before is better in [Config].ImageMounts. What is there stays, but for files of the
// image's names.
func (s *Sandbox) CopyImage(ctx context.Context, image *Image, path string) error {
	defer runtime.KeepAlive(image)
	var t texts
	defer t.free()
	copied, err := s.operation(ctx, "copy image", func(c common) C.int {
		return C.sbx_sandbox_copy_image_begin(s.handle, image.handle, t.text(path), c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return errorOr(t.bad, err)
	}
	return copied.do(ctx, nil)
}

// ExitImage is the image of [Config].ExitSnapshot, once the sandbox has ended.
func (s *Sandbox) ExitImage() (*Image, error) {
	var handle *C.sbx_image
	err := calling(s, "exit image", func(e *C.sbx_error) C.int { return C.sbx_sandbox_exit_image(s.handle, &handle, e) })
	if err != nil {
		return nil, err
	}
	return readImage("exit image", handle)
}

// Images are those of the store, the one that was used last first.
func Images(ctx context.Context) ([]ImageInfo, error) {
	listing, err := begunOperation(ctx, "list images", "the list of images", nil, func(c common) C.int {
		return C.sbx_image_list_begin(nil, c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return nil, err
	}
	var all []ImageInfo
	err = listing.do(ctx, func(op *operation) error {
		var list *C.sbx_image_list
		err := calling(op, "list images", func(e *C.sbx_error) C.int { return C.sbx_operation_images(op.handle, &list, e) })
		if err != nil {
			return err
		}
		defer C.sbx_image_list_free(list)
		for i := C.int(0); i < C.sbx_image_list_count(list); i++ {
			raw := C.sbx_image_summary{size: C.sizeof_sbx_image_summary}
			if err := result("list images", C.sbx_image_list_entry(list, C.size_t(i), &raw), nil); err != nil {
				return err
			}
			all = append(all, imageInfo(&raw))
		}
		return nil
	})
	return all, err
}

// TagImage gives an image one more name. Another image that has that name loses it.
func TagImage(ctx context.Context, name, tag string) error {
	_, _, err := changeImages(ctx, "tag", name, func(t *texts, c common) C.int {
		return C.sbx_image_tag_begin(nil, t.text(name), t.text(tag), c.queue, c.cookie, c.op, c.failure)
	})
	return err
}

// RemoveImage removes an image from the store: by one of its names, which is all that goes if it has others; by its id
// with all of its names. Sandboxes that run on it go on.
func RemoveImage(ctx context.Context, name string) error {
	_, _, err := changeImages(ctx, "remove", name, func(t *texts, c common) C.int {
		return C.sbx_image_remove_begin(nil, t.text(name), c.queue, c.cookie, c.op, c.failure)
	})
	return err
}

// PruneImages removes images, those that were not used for longest first, until the store has at most so many bytes. It
// says how many went, and how many bytes they had.
func PruneImages(ctx context.Context, maxBytes uint64) (images, bytes uint64, err error) {
	return changeImages(ctx, "prune", "images", func(_ *texts, c common) C.int {
		return C.sbx_image_prune_begin(nil, C.uint64_t(maxBytes), c.queue, c.cookie, c.op, c.failure)
	})
}

func changeImages(ctx context.Context, what, name string, begin func(*texts, common) C.int) (entries, bytes uint64, err error) {
	var t texts
	defer t.free()
	change, err := begunOperation(ctx, what, what+" of "+name, nil, func(c common) C.int { return begin(&t, c) })
	if err != nil {
		return 0, 0, errorOr(t.bad, err)
	}
	raw := C.sbx_file_totals{size: C.sizeof_sbx_file_totals}
	err = change.do(ctx, func(op *operation) error {
		if what != "prune" {
			return nil
		}
		return calling(op, what, func(e *C.sbx_error) C.int { return C.sbx_operation_totals(op.handle, &raw, e) })
	})
	return uint64(raw.entries), uint64(raw.bytes), err
}

// newImage begins an operation whose result is an image, and waits for it.
func newImage(ctx context.Context, what, name string, options *ImageOptions, begin func(*texts, *C.sbx_image_options, common) C.int) (*Image, error) {
	if options == nil {
		options = &ImageOptions{}
	}
	var t texts
	defer t.free()
	// In C's memory: it has pointers.
	raw := options.build(&t)
	if t.bad != nil {
		return nil, t.bad
	}
	progress := newProgress(options.Progress)
	defer progress.stop()
	made, err := progress.begunOperation(ctx, what, what+" of "+name, func(c common) C.int { return begin(&t, raw, c) })
	if err != nil {
		return nil, errorOr(t.bad, err)
	}
	var handle *C.sbx_image
	err = made.do(ctx, func(op *operation) error {
		return calling(op, what, func(e *C.sbx_error) C.int { return C.sbx_operation_image(op.handle, &handle, e) })
	})
	if err != nil {
		return nil, err
	}
	return readImage(what, handle)
}

// readImage makes an image of a handle, which is its own from then on.
func readImage(what string, handle *C.sbx_image) (*Image, error) {
	image := &Image{closed: newMoment(), handle: handle}
	info := C.sbx_image_summary{size: C.sizeof_sbx_image_summary}
	if err := result(what, C.sbx_image_info(image.handle, &info), nil); err != nil {
		return nil, err
	}
	image.ImageInfo = imageInfo(&info)
	image.Config = json.RawMessage(C.GoString(info.config))
	// A safety net, as with sandboxes.
	runtime.SetFinalizer(image, func(i *Image) { i.Close() })
	return image, nil
}

func (o *ImageOptions) build(t *texts) *C.sbx_image_options {
	raw := (*C.sbx_image_options)(t.zeroed(C.sizeof_sbx_image_options))
	raw.size = C.sizeof_sbx_image_options
	raw.format = C.int32_t(o.Format)
	set := func(place **C.char, value string) {
		if value != "" {
			*place = t.text(value)
		}
	}
	set(&raw.tag, o.Tag)
	set(&raw.platform, o.Platform)
	set(&raw._select, o.Select)
	set(&raw.username, o.Username)
	set(&raw.password, o.Password)
	set(&raw.ca_pem, o.CAPEM)
	set(&raw.credential_helper, o.CredentialHelper)
	set(&raw.mirrors, strings.Join(o.Mirrors, "\n"))
	raw.limit_bytes = C.uint64_t(o.Limits.Bytes)
	raw.limit_entries = C.uint64_t(o.Limits.Entries)
	raw.limit_ratio = C.uint64_t(o.Limits.Ratio)
	raw.limit_memory_bytes = C.uint64_t(o.Limits.Memory)
	raw.limit_depth = C.uint32_t(o.Limits.Depth)
	raw.limit_layers = C.uint32_t(o.Limits.Layers)
	return raw
}

func imageInfo(raw *C.sbx_image_summary) ImageInfo {
	var tags []string
	if all := C.GoString(raw.tags); all != "" {
		tags = strings.Split(all, "\n")
	}
	return ImageInfo{
		ID:       C.GoString(raw.id),
		Tags:     tags,
		Source:   C.GoString(raw.source),
		Size:     uint64(raw.bytes),
		Created:  time.UnixMilli(int64(raw.created_ms)),
		LastUsed: time.UnixMilli(int64(raw.last_used_ms)),
	}
}

func errorOr(first, other error) error {
	if first != nil {
		return first
	}
	return other
}

// progress passes an operation's progress to a callback, from a goroutine of its own: the callback may take its time.
type progress struct {
	reports chan [2]uint64
	stopped chan struct{}
}

func newProgress(report func(done, total uint64)) progress {
	p := progress{make(chan [2]uint64, 1), make(chan struct{})}
	go func() {
		defer close(p.stopped)
		for values := range p.reports {
			if report != nil {
				report(values[0], values[1])
			}
		}
	}()
	return p
}

// begunOperation begins one that reports here.
func (p progress) begunOperation(ctx context.Context, what, name string, begin func(common) C.int) (*operation, error) {
	return begunReporting(ctx, what, name, nil, p.reports, begin)
}

// stop returns when the callback isn't called any more. The operation has ended or was freed: nothing is sent
// to it then.
func (p progress) stop() {
	close(p.reports)
	<-p.stopped
}
