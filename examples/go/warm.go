package sbx

// #include <sbx.h>
import "C"

// WarmStats are what the sandboxes that are kept warm are and have done, as the C header's sbx_warm_stats.
type WarmStats struct {
	Wanted, Ready, Filling                      int
	Hits                                        uint64 // creations that took one
	MissesEmpty, MissesDifferent, MissesChanged uint64 // creations that took none: none was ready, fitted, or was current
	Discarded, Failures                         uint64
	LastMiss, LastFailure                       string // why, for people; "" if there was none
}

// withConfig calls the library with a config; nil is none.
func withConfig(op string, config *Config, call func(*C.sbx_config, *C.sbx_error) C.int) error {
	if err := begin(); err != nil {
		return err
	}
	var c *C.sbx_config
	if config != nil {
		built, err := config.build(0)
		defer C.sbx_config_free(built)
		if err != nil {
			return err
		}
		c = built
	}
	return calling(config, op, func(e *C.sbx_error) C.int { return call(c, e) })
}

// KeepWarm keeps sandboxes warm for configs like this one, so that [Create] has only to apply its config and to start its
// program; a count of 0 ends them. What has to be the same is Image or Rootfs, Mounts, ImageMounts, the limits, MTU,
// Hostname, the number of HostServices, and whether the policy is [Blocked]; all else is each sandbox's own. Returns at
// once: they are started in the background, one at a time, while no sandbox is being created.
func KeepWarm(config *Config, count int) error {
	if config == nil {
		return failed("keep warm", ErrInvalid, "a config is needed")
	}
	if count < 0 || count > 256 {
		return failed("keep warm", ErrInvalid, "a count from 0 to 256, not %d", count)
	}
	return withConfig("keep warm", config, func(c *C.sbx_config, e *C.sbx_error) C.int {
		return C.sbx_runtime_keep_warm(nil, c, C.uint32_t(count), e)
	})
}

// ReadWarmStats says what the warm sandboxes for configs like this one are and have done; nil is all of them.
func ReadWarmStats(config *Config) (WarmStats, error) {
	raw := C.sbx_warm_stats{size: C.sizeof_sbx_warm_stats}
	err := withConfig("warm stats", config, func(c *C.sbx_config, e *C.sbx_error) C.int {
		return C.sbx_runtime_warm_stats(nil, c, &raw, e)
	})
	return WarmStats{
		Wanted: int(raw.wanted), Ready: int(raw.ready), Filling: int(raw.filling), Hits: uint64(raw.hits),
		MissesEmpty: uint64(raw.misses_empty), MissesDifferent: uint64(raw.misses_different),
		MissesChanged: uint64(raw.misses_changed), Discarded: uint64(raw.discarded), Failures: uint64(raw.failures),
		LastMiss: C.GoString(&raw.last_miss[0]), LastFailure: C.GoString(&raw.last_failure[0]),
	}, err
}

// SetMaxStarts has at most that many sandboxes start at once, up to 256; 0 is the default. [Create] beyond that waits for
// its turn, in the order of the calls, unless it takes a sandbox that was kept warm.
func SetMaxStarts(count int) error {
	if count < 0 || count > 256 {
		return failed("set max starts", ErrInvalid, "a count from 0 to 256, not %d", count)
	}
	return withConfig("set max starts", nil, func(_ *C.sbx_config, e *C.sbx_error) C.int {
		return C.sbx_runtime_set_max_starts(nil, C.uint32_t(count), e)
	})
}

// MaxStarts is how many sandboxes start at once at most.
func MaxStarts() (int, error) {
	return readCount("max starts", func(e *C.sbx_error) C.int { return C.sbx_runtime_max_starts(nil, e) })
}

// SetSpares keeps count spares, up to 16; none by default. A spare is a sandbox that has started as far as gVisor's own
// program, for sandboxes like the last two that were created, if those were alike. It costs about 3 MB and saves a part of a
// start.
func SetSpares(count int) error {
	if count < 0 || count > 16 {
		return failed("set spares", ErrInvalid, "a count from 0 to 16, not %d", count)
	}
	return withConfig("set spares", nil, func(_ *C.sbx_config, e *C.sbx_error) C.int {
		return C.sbx_runtime_set_spares(nil, C.uint32_t(count), e)
	})
}

// Spares is how many spares are kept.
func Spares() (int, error) {
	return readCount("spares", func(e *C.sbx_error) C.int { return C.sbx_runtime_spares(nil, e) })
}

func readCount(op string, read func(*C.sbx_error) C.int) (count int, err error) {
	err = withConfig(op, nil, func(_ *C.sbx_config, e *C.sbx_error) C.int {
		code := read(e)
		count = max(int(code), 0)
		return min(code, 0)
	})
	return count, err
}
