package sbx

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestVolumesOutliveSandboxesAndAreShared(t *testing.T) {
	ctx := patience(t)
	says := func(script string, volumes ...VolumeMount) string {
		t.Helper()
		out := &bytes.Buffer{}
		sandbox := create(t, &Config{Command: []string{"sh", "-c", script}, Volumes: volumes, Stdout: out})
		if exit := ended(t, sandbox); exit.Code != 0 {
			t.Errorf("%q: %+v", script, exit)
		}
		return out.String()
	}
	says("echo hello >/data/file", VolumeMount{Name: "data-1", Target: "/data", Create: true})
	readOnly := VolumeMount{Name: "data-1", Target: "/data", ReadOnly: true}
	if out := says("cat /data/file; (echo x >/data/file) 2>/dev/null || echo refused", readOnly); out != "hello\nrefused\n" {
		t.Errorf("%q", out)
	}
	part := VolumeMount{Name: "data-1", Target: "/a", SubPath: "a/b", CreateSubPath: true}
	if out := says("touch /a/new; ls /a /data", part, readOnly); out != "/a:\nnew\n\n/data:\na\nfile\n" {
		t.Errorf("%q", out)
	}
	info, err := FindVolume(ctx, "data-1")
	must(t, err)
	data, err := os.ReadFile(filepath.Join(info.Path, "file"))
	must(t, err)
	if info.Name != "data-1" || info.InUse || info.Created.IsZero() || string(data) != "hello\n" {
		t.Errorf("%+v, %q", info, data)
	}

	_, err = CreateVolume(ctx, "made", false)
	must(t, err)
	_, err = CreateVolume(ctx, "made", false)
	wants(t, err, ErrExists, `"made"`)
	_, err = CreateVolume(ctx, "made", true)
	must(t, err)
	all, err := Volumes(ctx)
	must(t, err)
	if !slices.ContainsFunc(all, func(one VolumeInfo) bool { return one.Name == "made" }) {
		t.Errorf("%+v", all)
	}
	idle := create(t, &Config{Volumes: []VolumeMount{{Name: "made", Target: "/v"}}})
	wants(t, RemoveVolume(ctx, "made"), ErrState, "mounted")
	must(t, idle.Terminate())
	ended(t, idle)
	must(t, RemoveVolume(ctx, "made"))
	wants(t, RemoveVolume(ctx, "made"), ErrNotFound, `"made"`)

	for _, wrong := range []VolumeMount{{Name: "Bad", Target: "/v"}, {Name: "x", Target: "/v", SubPath: "../y"}, {Name: "x"}} {
		_, err := Create(ctx, &Config{Volumes: []VolumeMount{wrong}})
		wants(t, err, ErrInvalid, "")
	}
	_, err = Create(ctx, &Config{Volumes: []VolumeMount{{Name: "none", Target: "/v"}}})
	wants(t, err, ErrNotFound, `"none"`)
}
