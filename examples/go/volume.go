package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"time"
)

// VolumeInfo is what is known of a volume: a named directory that outlives sandboxes.
type VolumeInfo struct {
	Name string
	// Path is its directory on this machine. What sandboxes wrote there is theirs: follow no links in it, and trust no
	// content.
	Path    string
	Created time.Time
	InUse   bool // a sandbox of any of the user's programs has it mounted
}

// A VolumeMount shows a volume inside, at an absolute path. Sandboxes that share one see each other's changes at once, and
// trust each other with it.
type VolumeMount struct {
	Name, Target  string // 1 to 64 of a-z 0-9 . _ -, and no dot first
	ReadOnly      bool
	Create        bool   // make it if there is none of that name
	SubPath       string // only this directory of it: a relative path, on which no symbolic link is followed
	CreateSubPath bool   // make the directories of SubPath that are missing
}

func (v *VolumeMount) add(config *C.sbx_config, t *texts) C.int {
	var flags C.uint32_t
	for flag, set := range map[C.uint32_t]bool{
		C.SBX_VOLUME_READ_ONLY:       v.ReadOnly,
		C.SBX_VOLUME_CREATE:          v.Create,
		C.SBX_VOLUME_CREATE_SUB_PATH: v.CreateSubPath,
	} {
		if set {
			flags |= flag
		}
	}
	return C.sbx_config_add_volume(config, t.text(v.Name), t.text(v.Target), t.text(v.SubPath), flags)
}

// CreateVolume makes a volume. If it exists, that is [ErrExists] unless it mayExist.
func CreateVolume(ctx context.Context, name string, mayExist bool) (VolumeInfo, error) {
	flags := C.uint32_t(C.SBX_VOLUME_EXCLUSIVE)
	if mayExist {
		flags = 0
	}
	return oneVolume(volumes(ctx, "make", name, func(t *texts, c common) C.int {
		return C.sbx_volume_create_begin(nil, t.text(name), flags, c.queue, c.cookie, c.op, c.failure)
	}))
}

// FindVolume looks a volume up.
func FindVolume(ctx context.Context, name string) (VolumeInfo, error) {
	return oneVolume(volumes(ctx, "find", name, func(t *texts, c common) C.int {
		return C.sbx_volume_find_begin(nil, t.text(name), c.queue, c.cookie, c.op, c.failure)
	}))
}

// Volumes are all volumes, by name.
func Volumes(ctx context.Context) ([]VolumeInfo, error) {
	return volumes(ctx, "list", "volumes", func(_ *texts, c common) C.int {
		return C.sbx_volume_list_begin(nil, c.queue, c.cookie, c.op, c.failure)
	})
}

// RemoveVolume removes a volume with everything in it. It is refused while a sandbox of any of the user's programs has it
// mounted: [ErrState].
func RemoveVolume(ctx context.Context, name string) error {
	_, err := volumes(ctx, "remove", name, func(t *texts, c common) C.int {
		return C.sbx_volume_remove_begin(nil, t.text(name), c.queue, c.cookie, c.op, c.failure)
	})
	return err
}

func oneVolume(all []VolumeInfo, err error) (VolumeInfo, error) {
	if err != nil || len(all) == 0 {
		return VolumeInfo{}, err
	}
	return all[0], nil
}

func volumes(ctx context.Context, what, name string, begin func(*texts, common) C.int) ([]VolumeInfo, error) {
	var t texts
	defer t.free()
	done, err := begunOperation(ctx, what, what+" of "+name, nil, func(c common) C.int { return begin(&t, c) })
	if err != nil {
		return nil, errorOr(t.bad, err)
	}
	var all []VolumeInfo
	err = done.do(ctx, func(op *operation) error {
		if what == "remove" {
			return nil
		}
		var list *C.sbx_volume_list
		err := calling(op, what, func(e *C.sbx_error) C.int { return C.sbx_operation_volumes(op.handle, &list, e) })
		if err != nil {
			return err
		}
		defer C.sbx_volume_list_free(list)
		for i := C.int(0); i < C.sbx_volume_list_count(list); i++ {
			raw := C.sbx_volume_summary{size: C.sizeof_sbx_volume_summary}
			if err := result(what, C.sbx_volume_list_entry(list, C.size_t(i), &raw), nil); err != nil {
				return err
			}
			created := time.UnixMilli(int64(raw.created_ms))
			all = append(all, VolumeInfo{C.GoString(raw.name), C.GoString(raw.path), created, raw.in_use != 0})
		}
		return nil
	})
	return all, err
}
