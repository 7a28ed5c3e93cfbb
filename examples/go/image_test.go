package sbx

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rootTarball is a root file system with a shell, the libraries that it names, and a user.
func rootTarball(t *testing.T) string {
	t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	add := func(name string, mode int64, data []byte) {
		must(t, writer.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg}))
		_, err := writer.Write(data)
		must(t, err)
	}
	copied := func(at string) {
		data, err := os.ReadFile(at)
		must(t, err)
		add(strings.TrimPrefix(at, "/"), 0o755, data)
	}
	copied("/bin/sh")
	libraries, err := exec.Command("ldd", "/bin/sh").Output()
	must(t, err)
	for _, word := range strings.Fields(string(libraries)) {
		if strings.HasPrefix(word, "/") {
			copied(word)
		}
	}
	add("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\napp:x:7:8::/home:/bin/sh\n"))
	add("etc/motd", 0o600, []byte("of the image"))
	must(t, writer.Close())
	at := filepath.Join(t.TempDir(), "root.tar")
	must(t, os.WriteFile(at, archive.Bytes(), 0o644))
	return at
}

func TestAnImageIsImportedNamedListedRunAndRemoved(t *testing.T) {
	ctx := patience(t)
	at := rootTarball(t)
	var last, all uint64
	image, err := ImportImage(ctx, at, &ImageOptions{Tag: "go/test:one", Progress: func(done, total uint64) { last, all = done, total }})
	must(t, err)
	defer image.Close()
	if last > all {
		t.Errorf("%d of %d bytes", last, all)
	}
	if len(image.ID) != len("sha256:")+64 || image.Size == 0 || !json.Valid(image.Config) || len(image.Tags) != 1 {
		t.Errorf("%+v", image.ImageInfo)
	}
	again, err := FindImage(ctx, image.ID[:len("sha256:")+12])
	must(t, err)
	if again.ID != image.ID {
		t.Errorf("found %s, not %s", again.ID, image.ID)
	}
	must(t, again.Close())
	wants(t, again.Close(), ErrHandle, "closed before")

	out := &bytes.Buffer{}
	sandbox := create(t, &Config{
		Image: image, User: "app", Command: []string{"/bin/sh", "-c", "read line </etc/passwd; echo $line; exit 7"},
		ImageMounts: map[string]*Image{"/mnt/again": image}, Stdout: out,
	})
	if exit := ended(t, sandbox); exit.Code != 7 || out.String() != "root:x:0:0::/root:/bin/sh\n" {
		t.Errorf("%+v, %q", exit, out)
	}
	idle := create(t, &Config{Image: image, NoCommand: true})
	process, err := idle.Exec(ctx, &Cmd{Command: []string{"/bin/sh", "-c", "read line </etc/motd"}, User: "app"})
	must(t, err)
	exit, err := process.Wait(ctx)
	must(t, err)
	if exit.Code == 0 {
		t.Error("a user of the image read a file of its root's")
	}

	must(t, TagImage(ctx, "go/test:one", "go/test:two"))
	images, err := Images(ctx)
	must(t, err)
	at2 := slices.IndexFunc(images, func(info ImageInfo) bool { return info.ID == image.ID })
	if at2 < 0 || len(images[at2].Tags) != 2 {
		t.Errorf("%+v", images)
	}
	must(t, RemoveImage(ctx, "go/test:one"))
	_, err = FindImage(ctx, "go/test:one")
	wants(t, err, ErrNotFound, "go/test:one")
	removed, freed, err := PruneImages(ctx, 0)
	must(t, err)
	if removed == 0 || freed < image.Size {
		t.Errorf("%d images with %d bytes", removed, freed)
	}
	// The handle keeps what is removed.
	if exit := ended(t, create(t, &Config{Image: image, Command: []string{"/bin/sh", "-c", "exit 3"}})); exit.Code != 3 {
		t.Errorf("%+v", exit)
	}
}

func TestASnapshotIsAnImage(t *testing.T) {
	ctx := patience(t)
	image, err := ImportImage(ctx, rootTarball(t), nil)
	must(t, err)
	defer image.Close()
	sandbox := create(t, &Config{Image: image, NoCommand: true})
	process, err := sandbox.Exec(ctx, &Cmd{Command: []string{"/bin/sh", "-c", "echo kept >/etc/kept"}})
	must(t, err)
	_, err = process.Wait(ctx)
	must(t, err)
	snapshot, err := sandbox.Snapshot(ctx, &SnapshotOptions{Tag: "go/snapshot"})
	must(t, err)
	defer snapshot.Close()
	out := &bytes.Buffer{}
	ended(t, create(t, &Config{Image: snapshot, Command: []string{"/bin/sh", "-c", "read line </etc/kept; echo $line"}, Stdout: out}))
	if out.String() != "kept\n" {
		t.Errorf("%q", out)
	}
	_, err = create(t, &Config{}).Snapshot(ctx, nil)
	wants(t, err, ErrUnsupported, "image")
}

func TestADirectoryIsAnImageAndAnImageIsCopied(t *testing.T) {
	ctx := patience(t)
	image, err := ImportImage(ctx, rootTarball(t), nil)
	must(t, err)
	defer image.Close()
	sandbox := create(t, &Config{Image: image, NoCommand: true})
	must(t, sandbox.Files().WriteFile(ctx, "/tmp/kept", []byte("kept\n"), nil))
	directory, err := sandbox.SnapshotDirectory(ctx, "/tmp", &SnapshotOptions{Tag: "go/directory"})
	must(t, err)
	defer directory.Close()
	must(t, sandbox.CopyImage(ctx, directory, "/data/copy"))
	content, err := sandbox.Files().ReadFile(ctx, "/data/copy/kept", nil)
	must(t, err)
	if string(content) != "kept\n" {
		t.Errorf("%q", content)
	}
	_, err = sandbox.SnapshotDirectory(ctx, "/none", nil)
	wants(t, err, ErrNotFound, "/none")
	wants(t, sandbox.CopyImage(ctx, directory, "/"), ErrInvalid, "below the root")
}

func TestAnExitSnapshotIsWhatASandboxHadAtItsEnd(t *testing.T) {
	ctx := patience(t)
	image, err := ImportImage(ctx, rootTarball(t), nil)
	must(t, err)
	defer image.Close()
	command := []string{"/bin/sh", "-c", "echo kept >/etc/kept"}
	sandbox := create(t, &Config{Image: image, Command: command, ExitSnapshotTag: "go/exit"})
	ended(t, sandbox)
	kept, err := sandbox.ExitImage()
	must(t, err)
	defer kept.Close()
	out := &bytes.Buffer{}
	ended(t, create(t, &Config{Image: kept, Command: []string{"/bin/sh", "-c", "read line </etc/kept; echo $line"}, Stdout: out}))
	if out.String() != "kept\n" {
		t.Errorf("%q", out)
	}
	given := create(t, &Config{Image: image, NoCommand: true, ExitSnapshot: true})
	must(t, given.Terminate())
	must(t, given.Terminate())
	ended(t, given)
	_, err = given.ExitImage()
	wants(t, err, ErrState, "terminated again")
}

func TestBadImagesAreClearErrors(t *testing.T) {
	ctx := patience(t)
	_, err := ImportImage(ctx, filepath.Join(t.TempDir(), "none"), nil)
	wants(t, err, ErrNotFound, "none")
	garbage := filepath.Join(t.TempDir(), "garbage")
	must(t, os.WriteFile(garbage, []byte(strings.Repeat("garbage", 1000)), 0o644))
	_, err = ImportImage(ctx, garbage, nil)
	wants(t, err, ErrImage, "garbage")
	_, err = ImportImage(ctx, garbage, &ImageOptions{Username: "somebody"})
	wants(t, err, ErrInvalid, "username")
	_, err = PullImage(ctx, "Not A Reference", nil)
	wants(t, err, ErrInvalid, "Not A Reference")
	_, err = Create(ctx, &Config{ImageMounts: map[string]*Image{"/mnt": nil}})
	wants(t, err, ErrHandle, "")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = ImportImage(gone, garbage, nil)
	wants(t, err, context.Canceled, "")
}

func TestAPullThatIsGivenUpEnds(t *testing.T) {
	ctx := patience(t)
	// A registry that never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	pulling, cancel := context.WithCancel(ctx)
	go func() {
		connection, err := listener.Accept()
		cancel()
		if err == nil {
			_, _ = io.Copy(io.Discard, connection)
			connection.Close()
		}
	}()
	_, err = PullImage(pulling, listener.Addr().String()+"/team/app:1", nil)
	wants(t, err, context.Canceled, "pull")
}

func TestAnImageIsBuiltAndWhatWasDoneIsNotDoneAgain(t *testing.T) {
	ctx := patience(t)
	base, err := ImportImage(ctx, rootTarball(t), &ImageOptions{Tag: "go/base"})
	must(t, err)
	defer base.Close()
	from := t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "copied"), []byte("from the context\n"), 0o644))
	var output bytes.Buffer
	var done, all uint64
	build := &Build{
		Dockerfile: "FROM go/base\nARG WHO\nCOPY copied /copied\n" +
			"RUN --mount=type=secret,id=key read key </run/secrets/key; echo $WHO ${#key} >/made && echo said\n" +
			"CMD [\"/bin/sh\", \"-c\", \"read a </copied; read b </made; echo $a, $b\"]\n",
		Context: from, Args: map[string]string{"WHO": "me"}, Secrets: map[string]string{"key": "12345"}, Tag: "go/built",
		Output: &output, Progress: func(now, of uint64) { done, all = now, of },
	}
	image, err := BuildImage(ctx, build)
	must(t, err)
	defer image.Close()
	if said := output.String(); !strings.HasPrefix(said, "[1/4] FROM go/base\n[2/4] COPY copied /copied\n") || !strings.Contains(said, "\nsaid\n") {
		t.Error(said)
	}
	if all != 4 || done > all || image.Tags[0] != "docker.io/go/built:latest" {
		t.Errorf("%d of %d, %v", done, all, image.Tags)
	}
	out := &bytes.Buffer{}
	if exit := ended(t, create(t, &Config{Image: image, Stdout: out})); exit.Code != 0 || out.String() != "from the context, me 5\n" {
		t.Errorf("%+v, %q", exit, out)
	}
	output.Reset()
	again, err := BuildImage(ctx, build)
	must(t, err)
	defer again.Close()
	if again.ID != image.ID || strings.Count(output.String(), "CACHED") != 2 {
		t.Error(output.String())
	}
	must(t, os.WriteFile(filepath.Join(from, ".dockerignore"), []byte("copied\n"), 0o644))
	without := func(patterns []string) error {
		image, err := BuildImage(ctx, &Build{Dockerfile: "FROM go/base\nCOPY copied /copied\n", Context: from, Ignore: patterns})
		if err == nil {
			image.Close()
		}
		return err
	}
	must(t, without([]string{}))
	wants(t, without(nil), ErrNotFound, "by .dockerignore")
	wants(t, without([]string{"*", "!x"}), ErrNotFound, "ignore patterns")
	wants(t, without([]string{"a["}), ErrInvalid, `"a["`)
	_, err = BuildImage(ctx, &Build{Dockerfile: "FROM go/base\nRUN echo the reason; exit 3\n"})
	wants(t, err, ErrImage, "the reason")
	_, err = BuildImage(ctx, &Build{Dockerfile: "FROM go/base\n", Config: &Config{Name: "it"}})
	wants(t, err, ErrInvalid, "must not be set for a build")
	_, err = BuildImage(ctx, &Build{Dockerfile: "FROM a\nONBUILD RUN b\n"})
	wants(t, err, ErrUnsupported, "ONBUILD")
	_, err = BuildImage(ctx, &Build{Dockerfile: "FROM a\n", Timeout: -1})
	wants(t, err, ErrInvalid, "Timeout")
}
