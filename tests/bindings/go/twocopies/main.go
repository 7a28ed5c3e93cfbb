// Command twocopies uses the library that it is linked with and, by a plug-in, a second copy of it:
// twocopies path/to/libplugin.so
package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

static int run(void *function, const char *text) { return ((int (*)(const char *))function)(text); }
*/
import "C"

import (
	"context"
	"fmt"
	"os"
	"unsafe"

	sbx "github.com/libsbx/libsbx-go"
)

func main() {
	path, name, text := C.CString(os.Args[1]), C.CString("plugin_run"), C.CString("sleep 0.3; exit 3")
	defer C.free(unsafe.Pointer(text))
	library := C.dlopen(path, C.RTLD_NOW|C.RTLD_LOCAL)
	if library == nil {
		fail(C.GoString(C.dlerror()))
	}
	function := C.dlsym(library, name)
	if function == nil {
		fail("no plugin_run")
	}
	sandbox, err := sbx.Create(context.Background(), &sbx.Config{Command: []string{"sh", "-c", "sleep 0.3; exit 4"}})
	if err != nil {
		fail(err)
	}
	if code := C.run(function, text); code != 3 {
		fail("the plug-in's sandbox ended with", code)
	}
	if exit, err := sandbox.Wait(context.Background()); err != nil || exit.Code != 4 {
		fail(exit, err)
	}
}

func fail(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(1)
}
