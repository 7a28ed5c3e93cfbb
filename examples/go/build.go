package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"io"
	"os"
	"runtime"
	"time"
	"unsafe"
)

// Build is what an image is built from. The zero value of a field is its default.
type Build struct {
	Dockerfile string            // its text, not its path
	Context    string            // the directory that COPY and ADD take files from
	Ignore     []string          // patterns in the place of its .dockerignore, if not nil; an empty list leaves nothing out
	Contexts   map[string]string // further ones by name, for COPY --from=NAME
	Args       map[string]string // the values of ARGs
	Secrets    map[string]string // for RUN --mount=type=secret,id=ID: files in memory that are in no image

	// Config has the policy, limits, name servers and host services of the sandboxes in which RUN steps run. Without it
	// they reach nothing. What says which program runs on what is the Dockerfile's.
	Config *Config

	NoCache bool          // do every step again
	MaxAge  time.Duration // do steps again that were done longer ago (default: use what there is)
	Timeout time.Duration // for all of it (default one hour)

	MaxBytes uint64 // that its steps add, together (default 64 GiB)
	Tag      string // the name that the image is stored under (default none)

	// Output gets what is being done, and what the steps' programs say, until BuildImage returns. It is called from
	// another goroutine.
	Output io.Writer
	// Progress is called with the steps done and all steps, as that of [ImageOptions] is.
	Progress func(done, total uint64)
}

// BuildImage builds an image by a Dockerfile, and stores it. The results of steps are stored, too, and used again by
// builds with the same steps on the same image and files. A context that ends gives it up.
func BuildImage(ctx context.Context, build *Build) (*Image, error) {
	var b *C.sbx_build
	if err := calling(nil, "build", func(e *C.sbx_error) C.int { return C.sbx_build_new(&b, e) }); err != nil {
		return nil, err
	}
	defer C.sbx_build_free(b) // which may be free by then
	said, err := build.set(b)
	if err != nil {
		return nil, err
	}
	// The library has a copy of the pipe's other end until the build is free and has ended.
	asked := &ImageOptions{Progress: build.Progress}
	image, err := newImage(ctx, "build", "an image", asked, func(_ *texts, _ *C.sbx_image_options, c common) C.int {
		return C.sbx_image_build_begin(nil, b, c.queue, c.cookie, c.op, c.failure)
	})
	C.sbx_build_free(b)
	if said != nil {
		<-said
	}
	return image, err
}

// set sets everything. It returns what ends with the output, if there is one.
func (build *Build) set(b *C.sbx_build) (chan struct{}, error) {
	var s setting
	defer s.free()
	defer runtime.KeepAlive(build)
	bytes := func(text string) (*C.uint8_t, C.size_t) {
		return (*C.uint8_t)(unsafe.StringData(text)), C.size_t(len(text)) // which are copied
	}
	// What is wrong with a value is kept, and said when the build is begun.
	text, length := bytes(build.Dockerfile)
	C.sbx_build_set_dockerfile(b, text, length)
	s.text1(build.Context, func(v *C.char) C.int { return C.sbx_build_set_context(b, v) })
	s.when(build.Ignore != nil, func() C.int { return C.sbx_build_set_ignore(b, s.list(build.Ignore), C.size_t(len(build.Ignore))) })
	s.pairs(build.Contexts, func(n, v *C.char) C.int { return C.sbx_build_add_context(b, n, v) })
	s.pairs(build.Args, func(n, v *C.char) C.int { return C.sbx_build_add_arg(b, n, v) })
	for id, value := range build.Secrets {
		data, length := bytes(value)
		C.sbx_build_add_secret(b, s.text(id), data, length)
	}
	s.when(build.NoCache, func() C.int { return C.sbx_build_set_no_cache(b) })
	s.span("MaxAge", build.MaxAge, func(ms C.int64_t) C.int { return C.sbx_build_set_max_age_ms(b, ms) })
	s.span("Timeout", build.Timeout, func(ms C.int64_t) C.int { return C.sbx_build_set_timeout_ms(b, ms) })
	s.when(build.MaxBytes != 0, func() C.int { return C.sbx_build_set_max_bytes(b, C.uint64_t(build.MaxBytes)) })
	s.text1(build.Tag, func(v *C.char) C.int { return C.sbx_build_set_tag(b, v) })
	if build.Config != nil {
		config, err := build.Config.build(0)
		defer C.sbx_config_free(config)
		if err != nil {
			return nil, err
		}
		C.sbx_build_set_config(b, config)
	}
	if s.bad != nil || build.Output == nil {
		return nil, s.bad
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	C.sbx_build_set_output_fd(b, C.int(writer.Fd()))
	said := make(chan struct{})
	go func() {
		defer close(said)
		defer reader.Close()
		io.Copy(build.Output, reader)
	}()
	return said, nil
}
