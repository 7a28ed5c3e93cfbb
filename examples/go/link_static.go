//go:build sbx_static

package sbx

// With this tag the library is linked from libsbx.a. It is a file of its own because Go's build cache looks at
// files and tags, not at what pkg-config answers.

// #cgo pkg-config: --static sbx
import "C"
