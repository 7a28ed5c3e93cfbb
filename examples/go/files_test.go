package sbx

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFilesGoInAndComeOut(t *testing.T) {
	ctx := patience(t)
	files := create(t, &Config{}).Files()
	for _, data := range [][]byte{nil, []byte("hello\x00\xff"), bytes.Repeat([]byte("x"), 5<<20)} {
		must(t, files.WriteFile(ctx, "/tmp/a/b", data, &FileOptions{Parents: true, Mode: 0o640}))
		found, err := files.ReadFile(ctx, "/tmp/a/b", nil)
		must(t, err)
		if !bytes.Equal(found, data) {
			t.Errorf("%d bytes, not %d", len(found), len(data))
		}
	}
	must(t, files.WriteFile(ctx, "/tmp/a/b", []byte("12345"), nil))
	must(t, files.WriteFile(ctx, "/tmp/a/b", []byte("67"), &FileOptions{Append: true}))
	part, err := files.ReadFile(ctx, "/tmp/a/b", &FileOptions{Offset: 4, Limit: 3})
	must(t, err)
	if string(part) != "567" {
		t.Errorf("%q", part)
	}
	info, err := files.Stat(ctx, "/tmp/a/b", nil)
	must(t, err)
	if info.Name() != "b" || info.Size() != 7 || info.Mode() != 0o640 || info.IsDir() || info.UID != 0 ||
		time.Since(info.ModTime()) > time.Hour {
		t.Errorf("%+v", info)
	}
	must(t, files.Mkdir(ctx, "/tmp/a/dir", &FileOptions{Mode: 0o700 | fs.ModeSticky}))
	must(t, files.Rename(ctx, "/tmp/a/b", "/tmp/a/c", nil))
	entries, err := files.ReadDir(ctx, "/tmp/a", nil)
	must(t, err)
	modes := map[string]fs.FileMode{}
	for _, entry := range entries {
		modes[entry.Name()] = entry.Mode()
	}
	if len(modes) != 2 || modes["c"] != 0o640 || modes["dir"] != fs.ModeDir|fs.ModeSticky|0o700 {
		t.Errorf("%v", modes)
	}
	wants(t, files.Remove(ctx, "/tmp/a", nil), syscall.ENOTEMPTY, "/tmp/a")
	must(t, files.Remove(ctx, "/tmp/a", &FileOptions{Recursive: true}))
	must(t, files.Remove(ctx, "/tmp/a", &FileOptions{MissingOK: true}))
	link, err := files.Stat(ctx, "/proc/self", &FileOptions{NoFollow: true})
	must(t, err)
	if link.Mode()&fs.ModeSymlink == 0 || link.Target == "" {
		t.Errorf("%+v", link)
	}
}

func TestErrorsOfFilesAreGos(t *testing.T) {
	ctx := patience(t)
	sandbox := create(t, &Config{})
	files := sandbox.Files()
	_, err := files.ReadFile(ctx, "/tmp/none", nil)
	wants(t, err, fs.ErrNotExist, "/tmp/none")
	_, err = files.ReadFile(ctx, "/tmp", nil)
	wants(t, err, syscall.EISDIR, "")
	_, err = files.ReadFile(ctx, "/etc/hosts", &FileOptions{Limit: 1})
	wants(t, err, ErrLimit, "")
	wants(t, files.WriteFile(ctx, "/etc/x", nil, &FileOptions{User: "1234"}), fs.ErrPermission, "/etc/x")
	wants(t, files.WriteFile(ctx, "/etc/hosts", nil, &FileOptions{Exclusive: true}), fs.ErrExist, "/etc/hosts")
	wants(t, files.Mkdir(ctx, "relative", nil), ErrInvalid, "relative")
	wants(t, files.Rename(ctx, "/tmp/\x00", "/tmp/x", nil), ErrInvalid, "zero byte")
	wants(t, files.Rename(ctx, "/tmp/x", "/tmp/\x00", nil), ErrInvalid, "zero byte")
	wants(t, files.Download(ctx, "/tmp/none", io.Discard, nil), fs.ErrNotExist, "/tmp/none")
	var none context.Context
	wants(t, files.Mkdir(none, "/tmp/x", nil), ErrInvalid, "the context is nil")
	must(t, sandbox.Close())
	wants(t, files.Mkdir(ctx, "/tmp/x", nil), fs.ErrClosed, "")
}

func TestFilesOfAnySizeAreStreams(t *testing.T) {
	ctx := patience(t)
	files := create(t, &Config{}).Files()
	const size = 20 << 20
	must(t, files.Upload(ctx, "/tmp/large", io.LimitReader(zeros{}, size), nil))
	var count counter
	must(t, files.Download(ctx, "/tmp/large", &count, nil))
	if count != size {
		t.Error(count)
	}
	wants(t, files.Download(ctx, "/tmp/large", io.Discard, &FileOptions{Limit: 1000}), ErrLimit, "")
	// What fails on this side is that error, and the file isn't taken for whole.
	problem := errors.New("a problem of ours")
	wants(t, files.Upload(ctx, "/tmp/part", io.MultiReader(strings.NewReader("x"), broken{problem}), nil), problem, "ours")
	wants(t, files.Download(ctx, "/tmp/large", broken{problem}, nil), problem, "ours")

	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	must(t, writer.WriteHeader(&tar.Header{Name: "sub/file", Mode: 0o644, Size: 5}))
	_, err := writer.Write([]byte("hello"))
	must(t, err)
	must(t, writer.Close())
	must(t, files.CopyIn(ctx, "/tmp/tree", &archive, &FileOptions{Parents: true}))
	var out bytes.Buffer
	must(t, files.CopyOut(ctx, "/tmp/tree", &out, nil))
	found := map[string]string{}
	for reader := tar.NewReader(&out); ; {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		data, err := io.ReadAll(reader)
		must(t, err)
		found[strings.TrimPrefix(header.Name, "./")] = string(data)
	}
	if found["sub/file"] != "hello" {
		t.Errorf("%q", found)
	}
}

func TestAContextGivesAnOperationUp(t *testing.T) {
	sandbox := create(t, &Config{})
	files := sandbox.Files()
	must(t, files.WriteFile(patience(t), "/tmp/file", make([]byte, 1<<20), nil))
	// Nothing answers then. It waits until init has said that it was started.
	program, err := sandbox.Exec(patience(t), &Cmd{Command: []string{"sh", "-c", "read -r never; kill -STOP 1"}, Pipes: PipeStdin})
	must(t, err)
	must(t, program.Stdin.Close())
	eventually(t, "its init still answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := files.Stat(ctx, "/", nil)
		return errors.Is(err, context.DeadlineExceeded)
	})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	for _, call := range []func() error{
		func() error { _, err := files.ReadDir(ctx, "/", nil); return err },
		func() error { return files.Download(ctx, "/tmp/file", io.Discard, nil) },
		func() error { return files.Upload(ctx, "/tmp/new", zeros{}, nil) },
	} {
		wants(t, call(), context.DeadlineExceeded, "")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type broken struct{ err error }

func (b broken) Read([]byte) (int, error)  { return 0, b.err }
func (b broken) Write([]byte) (int, error) { return 0, b.err }
