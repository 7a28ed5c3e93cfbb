/*
 * libsbx: gVisor sandboxes inside your own process.
 *
 * This header is the reference manual. Rules that hold for all of it:
 *
 * - 0 or more is success, a negative number is one of SBX_E.... An sbx_error is the caller's, may be NULL, and
 *   is written on failure only. Results are written on success only: on failure their places stay as they were.
 * - Three codes may come from any function and aren't repeated below: SBX_EHANDLE for a handle that is NULL,
 *   freed, of another kind, or of another copy of the library; SBX_EFORKED in a child of fork; SBX_EPANIC after a
 *   panic in the library. A function that returns a pointer returns NULL instead. Only sbx_version and
 *   sbx_abi_version work in a child of fork.
 * - NULL in the place of a text, a struct or a result that is needed is SBX_EINVALID, and so is text that isn't
 *   UTF-8. None of these mistakes is a crash. Other pointers must point to what their type says: texts end with a
 *   NUL, arrays have as many elements as their count says.
 * - Every ..._free accepts NULL and a handle that was freed already. It does nothing in a child of fork.
 * - Texts passed in are copied. Texts and bytes returned, in structs too, belong to their object and live as long
 *   as it. Paths in a sandbox and names of its files are bytes without NUL and need not be UTF-8.
 * - Structs begin with their size. Zero them, or use the SBX_..._INIT macros: size 0 stands for the struct's first
 *   version. A size that no version has, or a field that this version doesn't know and that isn't 0, is SBX_ESIZE.
 * - The timeout of a call that waits is in milliseconds. Negative waits forever, 0 polls; SBX_ETIMEDOUT when it
 *   expires. A time in a struct is different, since structs begin as zero: 0 is its default, which it documents,
 *   and negative is no limit. Settings of a config take what they document.
 * - Descriptors returned by ..._open_fd functions and sbx_connect are the caller's to close.
 * - Any thread may call, with any stack from 64 KiB. The library installs no signal handler, changes no thread's
 *   signal mask, and writes nothing to stdout or stderr. It can't be unloaded: dlclose is safe and does nothing.
 */

#ifndef SBX_H
#define SBX_H

/* Made by cbindgen from src/ffi; do not edit. */

#include <stddef.h>
#include <stdint.h>

/* What the structs begin as. */
#ifdef __cplusplus
#define SBX_ERROR_INIT {static_cast<uint32_t>(sizeof(sbx_error)), 0, 0, 0, {0}}
#define SBX_EXIT_INIT {static_cast<uint32_t>(sizeof(sbx_exit)), 0, 0, 0, 0, 0}
#define SBX_VERDICT_INIT {static_cast<uint32_t>(sizeof(sbx_verdict)), 0, 0, 0, {0}}
#define SBX_EVENT_INIT \
  {static_cast<uint32_t>(sizeof(sbx_event)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}}
#define SBX_STATS_INIT {static_cast<uint32_t>(sizeof(sbx_stats)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define SBX_WARM_STATS_INIT {static_cast<uint32_t>(sizeof(sbx_warm_stats)), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}}
#define SBX_FILE_OPTIONS_INIT {static_cast<uint32_t>(sizeof(sbx_file_options)), 0, 0, 0, 0, 0, 0, NULL, 0}
#define SBX_FILE_ENTRY_INIT {static_cast<uint32_t>(sizeof(sbx_file_entry)), 0, 0, 0, 0, 0, 0, 0, NULL, NULL}
#define SBX_FILE_TOTALS_INIT {static_cast<uint32_t>(sizeof(sbx_file_totals)), 0, 0, 0, 0}
#define SBX_RUNTIME_CONFIG_INIT {static_cast<uint32_t>(sizeof(sbx_runtime_config)), 0, NULL, NULL, NULL, NULL, 0}
#define SBX_FINDING_INIT {static_cast<uint32_t>(sizeof(sbx_finding)), 0, NULL, NULL, NULL}
#define SBX_SANDBOX_ENTRY_INIT {static_cast<uint32_t>(sizeof(sbx_sandbox_entry)), 0, NULL, NULL}
#define SBX_POLICY_SUMMARY_INIT {static_cast<uint32_t>(sizeof(sbx_policy_summary)), 0, 0, 0, 0, 0}
#define SBX_OUTPUT_INIT {static_cast<uint32_t>(sizeof(sbx_output)), 0, NULL, 0, NULL, 0, 0}
#define SBX_TUNNEL_INIT {static_cast<uint32_t>(sizeof(sbx_tunnel)), 0, 0, 0, NULL, NULL, NULL, NULL}
#define SBX_IMAGE_OPTIONS_INIT \
  {static_cast<uint32_t>(sizeof(sbx_image_options)), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}
#define SBX_IMAGE_SUMMARY_INIT {static_cast<uint32_t>(sizeof(sbx_image_summary)), 0, NULL, NULL, NULL, NULL, 0, 0, 0}
#define SBX_VOLUME_SUMMARY_INIT {static_cast<uint32_t>(sizeof(sbx_volume_summary)), 0, NULL, NULL, 0}
#else
#define SBX_ERROR_INIT {(uint32_t)sizeof(sbx_error), 0, 0, 0, {0}}
#define SBX_EXIT_INIT {(uint32_t)sizeof(sbx_exit), 0, 0, 0, 0, 0}
#define SBX_VERDICT_INIT {(uint32_t)sizeof(sbx_verdict), 0, 0, 0, {0}}
#define SBX_EVENT_INIT {(uint32_t)sizeof(sbx_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}}
#define SBX_STATS_INIT {(uint32_t)sizeof(sbx_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define SBX_WARM_STATS_INIT {(uint32_t)sizeof(sbx_warm_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}}
#define SBX_FILE_OPTIONS_INIT {(uint32_t)sizeof(sbx_file_options), 0, 0, 0, 0, 0, 0, NULL, 0}
#define SBX_FILE_ENTRY_INIT {(uint32_t)sizeof(sbx_file_entry), 0, 0, 0, 0, 0, 0, 0, NULL, NULL}
#define SBX_FILE_TOTALS_INIT {(uint32_t)sizeof(sbx_file_totals), 0, 0, 0, 0}
#define SBX_RUNTIME_CONFIG_INIT {(uint32_t)sizeof(sbx_runtime_config), 0, NULL, NULL, NULL, NULL, 0}
#define SBX_FINDING_INIT {(uint32_t)sizeof(sbx_finding), 0, NULL, NULL, NULL}
#define SBX_SANDBOX_ENTRY_INIT {(uint32_t)sizeof(sbx_sandbox_entry), 0, NULL, NULL}
#define SBX_POLICY_SUMMARY_INIT {(uint32_t)sizeof(sbx_policy_summary), 0, 0, 0, 0, 0}
#define SBX_OUTPUT_INIT {(uint32_t)sizeof(sbx_output), 0, NULL, 0, NULL, 0, 0}
#define SBX_TUNNEL_INIT {(uint32_t)sizeof(sbx_tunnel), 0, 0, 0, NULL, NULL, NULL, NULL}
#define SBX_IMAGE_OPTIONS_INIT \
  {(uint32_t)sizeof(sbx_image_options), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}
#define SBX_IMAGE_SUMMARY_INIT {(uint32_t)sizeof(sbx_image_summary), 0, NULL, NULL, NULL, NULL, 0, 0, 0}
#define SBX_VOLUME_SUMMARY_INIT {(uint32_t)sizeof(sbx_volume_summary), 0, NULL, NULL, 0}
#endif

// The version of this header: major << 16 | minor << 8 | patch.
#define SBX_ABI_VERSION 512

// An argument or a setting has a value that is not allowed; the message names it and the rule.
#define SBX_EINVALID -1001

// A handle is NULL, freed, of another kind, or of another copy of the library.
#define SBX_EHANDLE -1002

// A struct's `size` is impossible, or an unknown part of it is not zero.
#define SBX_ESIZE -1003

// The time given ran out. A call that waits has changed nothing and may be made again; a file operation that has
// reached a limit of its options has ended, and what it did stays done.
#define SBX_ETIMEDOUT -1004

// The object was freed, its runtime was shut down, or the operation was cancelled, before it was done; or the queue
// that was given has been freed.
#define SBX_ECLOSED -1005

// Not possible in the state the object is in (for example tunnels of an ended sandbox).
#define SBX_ESTATE -1006

// The name, the port or the file is already there.
#define SBX_EEXISTS -1007

// There is no such thing.
#define SBX_ENOTFOUND -1008

// The combination or the operation is not supported.
#define SBX_EUNSUPPORTED -1009

// A limit of the library, of the process, or of an operation's options is reached (descriptors, queue, table, bytes).
#define SBX_ELIMIT -1010

// The host lacks something that is needed; the message says what and how to get it.
#define SBX_EHOST -1011

// No runsc was found.
#define SBX_ERUNSC_MISSING -1012

// The runsc that was found can't be used: not executable, too old, not runsc, no answer.
#define SBX_ERUNSC_UNUSABLE -1013

// The engine (keeper or runsc) failed to start or was lost.
#define SBX_EENGINE -1014

// The call was made in a child after fork; only the process that first used the library may call it.
#define SBX_EFORKED -1015

// The library panicked: a bug. The host goes on; the object concerned can only be freed.
#define SBX_EPANIC -1016

// A system call failed; `os_error` has its number.
#define SBX_ESYSTEM -1017

// Nothing in the sandbox accepts connections on that port.
#define SBX_EREFUSED -1018

// The program could not be started in the sandbox (not found, not executable ...).
#define SBX_EEXEC -1019

// An internal inconsistency: a bug in the library.
#define SBX_EINTERNAL -1020

// An image can't be used, or made: it is malformed, its registry refused, the process that reads it has ended, or the
// directory of images isn't safe. The message says which, and what to do.
#define SBX_EIMAGE -1021

// Being created: nothing of the program runs yet.
#define SBX_STATE_STARTING 1

// The program was started.
#define SBX_STATE_RUNNING 2

// The program has ended, or the sandbox is being ended; its processes are going away.
#define SBX_STATE_ENDING 3

// Nothing of it is left.
#define SBX_STATE_ENDED 4

// The program ended by itself; `code` is its own.
#define SBX_EXIT_EXITED 1

// A signal ended the program; `code` is 128 + the signal.
#define SBX_EXIT_SIGNALLED 2

// Its timeout expired; `code` is 124.
#define SBX_EXIT_TIMED_OUT 3

// It was idle for longer than allowed; `code` is 124.
#define SBX_EXIT_IDLE 4

// It was terminated by the host; `code` is 137.
#define SBX_EXIT_TERMINATED 5

// It needed more memory than its limit; `code` is 137.
#define SBX_EXIT_OUT_OF_MEMORY 6

// The keeper or gVisor died unexpectedly, or the sandbox's init did not answer for half a minute, or did not confirm
// the end of a timed-out program within twenty seconds; `code` is 137.
#define SBX_EXIT_ENGINE_LOST 7

// The sandbox's program was started. Never dropped.
#define SBX_EVENT_STARTED 1

// The sandbox could not be created; `code` is the error's number, `detail` its text. Never dropped.
#define SBX_EVENT_FAILED 2

// The server inside has answered a probe for the first time. Probing starts with the sandbox if its config has a
// probe, otherwise with the first sbx_wait_ready, also with a timeout of 0. A sandbox with neither probe nor port
// has no such event.
#define SBX_EVENT_READY 3

// The sandbox has ended and nothing of it is left; `code` and `reason` as in sbx_exit. Never dropped.
#define SBX_EVENT_EXITED 4

// A program of sbx_exec_begin or sbx_exec has ended; `code` and `reason` as in sbx_exit. If it could not be started,
// `reason` is 0, `code` the error's number and `detail` its text. Never dropped.
#define SBX_EVENT_PROCESS_EXITED 5

// Something that the sandbox wanted to reach was denied: `address` (an address or a name), `port`, `protocol` (6 is
// TCP, 17 UDP), `reason` (SBX_REASON_...), `entry` (the policy's entry, or -1), `detail`. The first denial of a
// destination is reported at once; further ones are counted and reported once a second, in `count`. An event without
// `address` counts the denials of further destinations, beyond the 64 that are reported separately within a second.
#define SBX_EVENT_DENIED 6

// A change of the policy begun by sbx_set_policy_begin has ended; `cookie` is the one given there. `code` is 0 and
// `value[0]` the policy's generation, or `code` is an error's number and `detail` its text, and the old policy stays.
// Never dropped.
#define SBX_EVENT_POLICY_APPLIED 7

// A limit of the library was reached; `detail` says which.
#define SBX_EVENT_LIMIT 8

// A program of sbx_exec_begin or sbx_exec was started. Never dropped.
#define SBX_EVENT_PROCESS_STARTED 9

// An operation has ended, except a change of the policy (SBX_EVENT_POLICY_APPLIED) and a check (SBX_EVENT_CHECKED):
// `cookie` is the one it was begun with. `code` is 0 and `value` the bytes done and the bytes in all, as far as they are
// known (the same for a file, 0 where no bytes are moved), or `code` is the error's number and `detail` its text. Never
// dropped.
#define SBX_EVENT_OPERATION_DONE 10

// In a directory that is watched there are changes to be taken: sbx_operation_next_change until it has
// none. `cookie` is the watch's.
#define SBX_EVENT_FILE_CHANGED 11

// What the sandbox wanted to reach was allowed, and the far end did not take it: refused, unreachable, silent for
// too long. `address`, `port` and `protocol` say where, `code` is the errno. Gathered like SBX_EVENT_DENIED.
#define SBX_EVENT_UNREACHABLE 12

// A check begun by sbx_runtime_check_begin has ended, and its report can be read: `cookie` is the one given there,
// `value[0]` 1 if sandboxes can be created, else 0; or `code` is an error's number and `detail` its text. Never
// dropped.
#define SBX_EVENT_CHECKED 13

// An operation on an image goes on: `cookie` is the one it was begun with, `value` the bytes done and the bytes in all, as
// far as they are known (0: not yet), `detail` what is being done. At most ten a second for an operation.
#define SBX_EVENT_PROGRESS 14

// The exit snapshot of a sandbox (sbx_config_set_exit_snapshot) is stored: `code` is 0, `detail` the image's id, value[0] its
// bytes and value[1] the microseconds in which the sandbox was paused; or there is none, and `code` and `detail` say why.
// SBX_EVENT_EXITED follows. Never dropped.
#define SBX_EVENT_EXIT_SNAPSHOT 15

// The kernel (cgroups) enforces the limits of memory and processor; if it can't, creating the sandbox fails.
#define SBX_LIMITS_STRICT 0

// If the kernel can't, the library samples the memory many times a second and ends a sandbox that exceeds its
// limit as out of memory. Best effort: a quick program can exceed it for a moment, what thousands of processes
// have of their own is noticed some seconds late, and the kernel's memory for sockets and pipes isn't counted.
#define SBX_LIMITS_WATCHDOG 1

// `cpu_us` of sbx_stats is known.
#define SBX_STATS_CPU 1

// `memory_bytes` of sbx_stats is known.
#define SBX_STATS_MEMORY 2

// `memory_peak_bytes` of sbx_stats is known.
#define SBX_STATS_MEMORY_PEAK 4

// `processes` of sbx_stats is known.
#define SBX_STATS_PROCESSES 8

// The fields of sbx_stats that begin with `egress_` and `dns_` are known.
#define SBX_STATS_EGRESS 16

// For sbx_file_options.flags. Remove, watch: everything below, too.
#define SBX_FILE_RECURSIVE 1

// Write, upload, copy in, make directory: make the directories above that aren't there. Making a directory
// that is there is no error then.
#define SBX_FILE_PARENTS 2

// Write, upload, rename: fail with SBX_EEXISTS if something of that name is there.
#define SBX_FILE_EXCLUSIVE 4

// Write, upload: at the end of what is there.
#define SBX_FILE_APPEND 8

// Stat: a symbolic link itself, not what it leads to.
#define SBX_FILE_NO_FOLLOW 16

// Copy in: owners as the archive says; else everything belongs to the user.
#define SBX_FILE_KEEP_OWNER 32

// Remove: nothing there is no error.
#define SBX_FILE_MISSING_OK 64

// What 0 stands for in sbx_file_options.progress_timeout_ms: a minute.
#define SBX_FILE_PROGRESS_TIMEOUT_MS 60000

// A regular file.
#define SBX_FILE_KIND_FILE 1

// A directory.
#define SBX_FILE_KIND_DIRECTORY 2

// A symbolic link.
#define SBX_FILE_KIND_SYMLINK 3

// A FIFO.
#define SBX_FILE_KIND_FIFO 4

// A socket.
#define SBX_FILE_KIND_SOCKET 5

// A character or block device.
#define SBX_FILE_KIND_DEVICE 6

// Something else.
#define SBX_FILE_KIND_OTHER 7

// Watching has begun: every change from now on is reported. The path is empty.
#define SBX_CHANGE_READY 1

// It is new.
#define SBX_CHANGE_CREATED 2

// Its content has changed.
#define SBX_CHANGE_MODIFIED 3

// It is gone.
#define SBX_CHANGE_REMOVED 4

// It was renamed, and this was its name.
#define SBX_CHANGE_MOVED_FROM 5

// It was renamed, and this is its name now.
#define SBX_CHANGE_MOVED_TO 6

// Its permissions, owner or times have changed.
#define SBX_CHANGE_ATTRIBUTES 7

// Some changes were lost because there were too many at once, or there are directories that are not watched because
// they are beyond the limits: look for yourself. The path is empty.
#define SBX_CHANGE_OVERFLOW 8

// Everything that the requirement asks for is there.
#define SBX_FINDING_OK 1

// It works, but less well; the remedy says how to improve it.
#define SBX_FINDING_LIMITED 2

// Sandboxes can't be created until the remedy is applied.
#define SBX_FINDING_MISSING 3

// Standard input, where a stream is asked for.
#define SBX_STDIN 0

// Standard output.
#define SBX_STDOUT 1

// Standard error.
#define SBX_STDERR 2

// The terminal of a program that has one: sbx_process_open_fd.
#define SBX_TERMINAL 3

// Standard input is empty, output is discarded. The default.
#define SBX_STREAM_NULL 0

// The host gets a descriptor for the stream: sbx_sandbox_open_fd, sbx_process_open_fd.
#define SBX_STREAM_DESCRIPTOR 1

// Standard error goes where standard output goes. For SBX_STDERR only.
#define SBX_STREAM_MERGED 2

// A tunnel on which the library ends TLS; the server inside speaks plain TCP.
#define SBX_PORT_ENCRYPTED 1

// As SBX_PORT_ENCRYPTED, and clients are offered HTTP/2 (ALPN "h2").
#define SBX_PORT_H2 2

// A tunnel of raw TCP.
#define SBX_PORT_UNENCRYPTED 3

// For sbx_config_add_mount: the sandbox can't write to it. The default.
#define SBX_MOUNT_READ_ONLY 0

// What the sandbox writes is written on the host.
#define SBX_MOUNT_WRITABLE 1

// For sbx_config_add_volume: the sandbox can't write to it.
#define SBX_VOLUME_READ_ONLY 1

// The volume is made if there is none of that name.
#define SBX_VOLUME_CREATE 2

// The directories of the sub-path that are missing are made.
#define SBX_VOLUME_CREATE_SUB_PATH 4

// For sbx_volume_create_begin: fail with SBX_EEXISTS if the volume exists.
#define SBX_VOLUME_EXCLUSIVE 8

// For sbx_image_options.format: what is imported is found out. The default.
#define SBX_IMAGE_FORMAT_AUTO 0

// An OCI image layout: a directory, or a tar archive of it.
#define SBX_IMAGE_FORMAT_OCI 1

// An archive of `docker save`.
#define SBX_IMAGE_FORMAT_DOCKER 2

// A tar archive of a root file system.
#define SBX_IMAGE_FORMAT_TARBALL 3

// A directory that is a root file system.
#define SBX_IMAGE_FORMAT_DIRECTORY 4

// Every public address is allowed, except denied ranges: sbx_policy_new.
#define SBX_POLICY_OPEN 1

// Only what an entry allows is allowed.
#define SBX_POLICY_ALLOWLIST 2

// No network at all.
#define SBX_POLICY_BLOCKED 3

// Allowed: a public address, and the policy is open.
#define SBX_REASON_OPEN 1

// Allowed by an entry.
#define SBX_REASON_LISTED 2

// Allowed: TLS to a domain that an entry names.
#define SBX_REASON_DOMAIN 3

// Denied: the policy is blocked.
#define SBX_REASON_BLOCKED -1

// Denied by an entry, which wins over everything.
#define SBX_REASON_DENIED -2

// Denied: no entry of the allowlist matches.
#define SBX_REASON_NOT_LISTED -3

// Denied: private, link-local or otherwise special, and no entry lies inside that range.
#define SBX_REASON_PROTECTED -4

// Denied: a cloud's metadata service, and no entry is for this very address.
#define SBX_REASON_METADATA -5

// Denied: an address of the host, and no entry is for this very address.
#define SBX_REASON_HOST -6

// Denied whatever the entries say: multicast, reserved, IPv4-embedded (NAT64, 6to4), the sandbox's own network.
#define SBX_REASON_RESERVED -7

// Denied: neither TCP nor UDP.
#define SBX_REASON_PROTOCOL -8

// Denied: a name that the policy doesn't let be asked for, or another record of it than its addresses. It was not
// asked for.
#define SBX_REASON_DNS_NAME -9

// Denied: an address in an answer to a question for a name, which points at something protected. It was taken
// out of the answer.
#define SBX_REASON_REBINDING -10

// Denied: reached only as a domain, by TLS, and what was sent is not TLS.
#define SBX_REASON_NOT_TLS -11

// Denied: reached only as a domain, and the TLS handshake names no server (no SNI).
#define SBX_REASON_NO_SERVER_NAME -12

// Denied: reached only as a domain, and the TLS handshake names a server that no entry is for.
#define SBX_REASON_SERVER_NAME -13

// Denied: the TLS handshake names an allowed server, but the sandbox's resolver did not answer this address for
// that name, or too long ago.
#define SBX_REASON_NOT_RESOLVED -14

// Denied: reached only as a domain, and the TLS handshake did not begin in time.
#define SBX_REASON_TLS_TIMEOUT -15

// Denied: the policy allows it, but the gateway doesn't let it through: IPv6 where the sandbox has none, or a policy
// that was changed at that very moment.
#define SBX_REASON_GATEWAY -16

// Denied: a neighbour on a link of the host's own, at a public address, and no entry is for such:
// sbx_policy_allow_local_cidr in an open policy, a range inside the link's in an allowlist.
#define SBX_REASON_ON_LINK -17

// An open policy answers every name; an allowlist the names of its domains and no other. The default.
#define SBX_DNS_AUTO 0

// Every name is answered.
#define SBX_DNS_ON 1

// No name is answered.
#define SBX_DNS_OFF 2

// The names of SBX_DNS_AUTO, and of each its addresses only: A, AAAA, HTTPS and SVCB records, and no alias.
#define SBX_DNS_ADDRESSES 3

// For sbx_runtime_config.flags: sandboxes get no user namespace of their own. Only for a host that has
// CAP_SYS_ADMIN and CAP_NET_ADMIN where user namespaces are disabled.
#define SBX_RUNTIME_NO_USER_NAMESPACE 1

// What an image is built from, and how: a Dockerfile's text, directories that files are copied from, arguments, secrets.
//
// A setter returns at once what is wrong and keeps it: sbx_image_build_begin returns the first bad value, with its text.
// One sbx_build makes any number of images. One thread at a time sets; no function blocks.
typedef struct sbx_build sbx_build;

// What a capture of an output stream had kept when it was asked for. It doesn't change; any thread may read it.
typedef struct sbx_capture sbx_capture;

// How a sandbox is created.
//
// A setter returns at once what is wrong and keeps it: sbx_config_check and sbx_create return the first bad value,
// with its text. So a program may set everything and check once. One config makes any number of sandboxes. One
// thread at a time sets; no function blocks.
typedef struct sbx_config sbx_config;

// How a program is executed in a running sandbox. What isn't set is as for the sandbox's own program: environment,
// directory, user.
//
// As with sbx_config, a setter returns at once what is wrong and keeps it: sbx_exec_config_check and sbx_exec
// return the first bad value, with its text. One config starts any number of programs. One thread at a time sets;
// no function blocks.
typedef struct sbx_exec_config sbx_exec_config;

// A file system with the settings that were made for it, as it is stored: sbx_config_set_image.
//
// It doesn't change; any thread may read it. Its file stays readable as long as the handle, a config or a sandbox has the
// image, also when it is removed from the store. It keeps one descriptor open.
typedef struct sbx_image sbx_image;

// The images of a store as they were at a moment. It doesn't change; any thread may read it.
typedef struct sbx_image_list sbx_image_list;

// Something that was begun and goes on by itself, and its result.
//
// All ..._begin functions that give one work alike. They never block, and may be called from any thread. `queue` and
// `cookie` say where the event of the end goes: SBX_EVENT_OPERATION_DONE, unless the function names another. With a NULL
// queue there is no event. They return 0 and set *operation, or what is wrong at once, and then no event comes; what
// goes wrong later is the operation's own error. Where a program may block, this is a call that waits:
//
//   sbx_operation *operation = NULL;
//   int code = sbx_file_remove_begin(sandbox, "/tmp/a", NULL, NULL, 0, &operation, &error);
//   if (code == 0) code = sbx_operation_wait(operation, -1, &error);
//   sbx_operation_free(operation);
//
// Any thread may call any function of an operation at any time; only sbx_operation_free comes last. An operation doesn't
// keep its sandbox alive.
typedef struct sbx_operation sbx_operation;

// What a sandbox may reach. A policy names its mode, so that no empty list can mean "everything".
//
// The first bad entry is kept: sbx_config_set_policy, sbx_config_check and sbx_create return it. So a program may
// add everything and check once.
typedef struct sbx_policy sbx_policy;

// A program executed in a running sandbox.
//
// Any thread may call any of its functions at any time, several at once; only sbx_process_free comes last. A
// handle doesn't keep the sandbox alive: the program ends with the sandbox.
typedef struct sbx_process sbx_process;

// A queue of events, for any number of sandboxes.
typedef struct sbx_queue sbx_queue;

// What the doctor found. It doesn't change; any thread may read it. Texts live as long as it.
typedef struct sbx_report sbx_report;

// A runtime: two threads, however many sandboxes there are, and short-lived ones. One of those scans the host's
// programs before the first sandbox is created, one plans sandboxes, each check and each large policy that is
// being loaded has one, and operations on images and volumes have up to eleven. A thread that hangs on the host (on a dead mount, say) is left behind and replaced; there
// are never more than 64 of those. As long as one hangs in the kernel, so do setuid(2) and its like, which glibc
// has every thread of a process take part in (nptl(7)).
//
// Both threads end some seconds after the last sandbox and start again with the next. Until then they keep a
// process alive whose main thread has left by pthread_exit(3); and since they block all signals, SIGTERM doesn't
// end a process that has no other thread. sbx_runtime_free ends a runtime's threads at once.
//
// Where a function takes a runtime, NULL stands for the process's default runtime, which is made on first use and
// lives as long as the process. It looks for runsc when its first sandbox is created; until it has found one that
// works, it reads the environment again each time.
typedef struct sbx_runtime sbx_runtime;

// A sandbox.
//
// Any thread may call any of its functions at any time, several at once; only sbx_sandbox_free comes last.
typedef struct sbx_sandbox sbx_sandbox;

// The sandboxes of a runtime as they were at a moment. It doesn't change; any thread may read it. It keeps no
// sandbox alive.
typedef struct sbx_sandbox_list sbx_sandbox_list;

// Where the ports of a sandbox are reached. It doesn't change and outlives the sandbox; any thread may read it.
typedef struct sbx_tunnel_map sbx_tunnel_map;

// Volumes as they were at a moment. It doesn't change; any thread may read it.
typedef struct sbx_volume_list sbx_volume_list;

// How a runtime is made. The caller owns it; zero it or use SBX_RUNTIME_CONFIG_INIT, which suits most programs.
typedef struct sbx_runtime_config {
    // sizeof(sbx_runtime_config), or 0.
    uint32_t size;
    // SBX_RUNTIME_..., added up.
    uint32_t flags;
    // The runsc to use. NULL: SBX_RUNSC, then PATH, then /usr/local/bin, /usr/bin, /usr/local/sbin, /usr/sbin,
    // /opt/gvisor/bin and /opt/bin.
    const char *runsc;
    // An installed copy of the keeper to use instead of the embedded one; NULL: SBX_KEEPER, or none.
    const char *keeper;
    // Where images are kept; NULL: libsbx/images in XDG_CACHE_HOME, or in .cache of HOME. It is made if it isn't there.
    // It and the directories above must be writable by this user and root only.
    const char *image_directory;
    // Where volumes are kept; NULL: libsbx/volumes in XDG_DATA_HOME, or in .local/share of HOME. It is made if it isn't
    // there. It and the directories above must be writable by this user and root only.
    const char *volume_directory;
    // How many bytes must be free there for a new sandbox with a writable volume; 0: 1 GiB.
    uint64_t volume_min_free_bytes;
} sbx_runtime_config;

// Why a call failed. The caller owns it, it is written on failure only, and NULL may be passed instead.
//
// Zero it or use SBX_ERROR_INIT. It serves any number of calls, by one thread at a time. If its `size` is
// impossible, every call returns SBX_ESIZE before it does anything.
typedef struct sbx_error {
    // sizeof(sbx_error), or 0.
    uint32_t size;
    // The number that the call returned: one of SBX_E....
    int32_t code;
    // The errno of the system call that failed, or 0.
    int32_t os_error;
    // 0.
    uint32_t reserved;
    // A text for people in UTF-8, always terminated: the value or call, the rule, what to do.
    char message[496];
} sbx_error;

// How one requirement stands. Its texts belong to the report. The caller owns the struct; zero it or use
// SBX_FINDING_INIT.
typedef struct sbx_finding {
    // sizeof(sbx_finding), or 0.
    uint32_t size;
    // SBX_FINDING_OK, SBX_FINDING_LIMITED or SBX_FINDING_MISSING.
    int32_t status;
    // What the requirement is called.
    const char *name;
    // What was found.
    const char *detail;
    // What to do about it; empty where there is nothing to do.
    const char *remedy;
} sbx_finding;

// A sandbox of a list, as it was at that moment. Its texts belong to the list. The caller owns the struct; zero it or
// use SBX_SANDBOX_ENTRY_INIT.
typedef struct sbx_sandbox_entry {
    // sizeof(sbx_sandbox_entry), or 0.
    uint32_t size;
    // SBX_STATE_....
    int32_t state;
    // Its id.
    const char *id;
    // Its name; NULL if it has none.
    const char *name;
} sbx_sandbox_entry;

// Something that happened to a sandbox, a program in it or an operation. SBX_EVENT_... documents which fields a kind
// uses. The caller owns it; zero it or use SBX_EVENT_INIT.
typedef struct sbx_event {
    // sizeof(sbx_event), or 0.
    uint32_t size;
    // What happened: SBX_EVENT_.... Skip what you don't know: later versions have more.
    uint32_t kind;
    // The host's own number for what it happened to: the one given to sbx_config_set_queue,
    // sbx_exec_config_set_queue, or a ..._begin function.
    uint64_t cookie;
    // Counts the queue's events from 1, the lost ones included.
    uint64_t sequence;
    // When, in milliseconds of CLOCK_MONOTONIC.
    int64_t time_ms;
    // How many events were dropped just after this one because the queue was full.
    uint64_t lost;
    // An exit code, an error's number, the errno of SBX_EVENT_UNREACHABLE, or 0.
    int32_t code;
    // SBX_EXIT_... or SBX_REASON_..., or 0.
    int32_t reason;
    // The place of the policy's entry concerned, or -1: sbx_policy_entry.
    int32_t entry;
    // An IP protocol, or 0.
    uint32_t protocol;
    // A port, or 0.
    uint32_t port;
    // How many times it happened, where events are gathered; else 1.
    uint32_t count;
    // An address or a name, or empty.
    char address[64];
    // A text for people, or empty.
    char detail[280];
    // Numbers that belong to the kind, or 0: see there.
    uint64_t value[2];
} sbx_event;

// A file, as the sandbox describes it: sbx_operation_entry. The caller owns it; zero it or use SBX_FILE_ENTRY_INIT.
typedef struct sbx_file_entry {
    // sizeof(sbx_file_entry), or 0.
    uint32_t size;
    // SBX_FILE_KIND_....
    uint32_t kind;
    // Its permissions, from 0 to 07777.
    uint32_t mode;
    // Its owner.
    uint32_t user;
    // Its group.
    uint32_t group;
    // How many names it has.
    uint32_t links;
    // Its length.
    uint64_t bytes;
    // When its content was last changed, in nanoseconds since 1970.
    int64_t modified_ns;
    // Its name in the directory that was listed: bytes, not always UTF-8, never "." or "..", without a slash. Empty
    // for sbx_file_stat_begin. It lives as long as the operation's handle.
    const char *name;
    // Where a symbolic link leads, as the name; NULL for everything else.
    const char *target;
} sbx_file_entry;

// What a file operation has done, as the sandbox reports it, what was pruned, is in a snapshot or was copied of an image:
// sbx_operation_totals. The caller owns it; zero it or use SBX_FILE_TOTALS_INIT.
typedef struct sbx_file_totals {
    // sizeof(sbx_file_totals), or 0.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // Bytes of files.
    uint64_t bytes;
    // Files, directories and whatever else.
    uint64_t entries;
    // Entries that were left out: sockets and devices are not copied.
    uint64_t skipped;
} sbx_file_totals;

// What a sandbox uses and has done. The caller owns it; zero it or use SBX_STATS_INIT.
typedef struct sbx_stats {
    // sizeof(sbx_stats), or 0.
    uint32_t size;
    // SBX_STATS_... together: which of the fields below that can be unknown are known; the others are 0.
    uint32_t known;
    // From the program's start to its end or to now, in milliseconds.
    int64_t uptime_ms;
    // Processor time of all its processes on the host, gVisor's own included, in microseconds.
    int64_t cpu_us;
    // Memory on the host: the programs', their files in memory, and gVisor's own (about 20 MB).
    uint64_t memory_bytes;
    // The most memory it ever had.
    uint64_t memory_peak_bytes;
    // Processes inside, without the library's own. Reported by code in the sandbox, which can make it any
    // number; at most 65,536.
    uint32_t processes;
    // Connections through its tunnels that are open now.
    uint32_t tunnel_connections;
    // Connections through its tunnels that were accepted since its start.
    uint64_t tunnel_connections_total;
    // Bytes from the tunnels' clients to the sandbox.
    uint64_t tunnel_bytes_in;
    // Bytes from the sandbox to the tunnels' clients.
    uint64_t tunnel_bytes_out;
    // Connections and UDP flows from the sandbox to outside that are open now.
    uint32_t egress_flows;
    // 0.
    uint32_t reserved;
    // Connections and UDP flows from the sandbox to outside since its start.
    uint64_t egress_flows_total;
    // Bytes from outside to the sandbox by those flows.
    uint64_t egress_bytes_in;
    // Bytes from the sandbox to outside by those flows.
    uint64_t egress_bytes_out;
    // What the policy denied: flows, and single packets that the gateway's rules refused, sent again or not.
    uint64_t egress_denied;
    // Names that were asked for.
    uint64_t dns_queries;
    // Names that the policy refused to look up.
    uint64_t dns_refused;
    // What the library's threads have spent on it, in microseconds: on its tunnels, what it reaches, its streams and
    // files. Time that has passed, so waiting for a processor counts. Each thread shares its time fairly between
    // the sandboxes that have something to do.
    int64_t library_us;
} sbx_stats;

// What a policy says of an address. The caller owns it; zero it or use SBX_VERDICT_INIT.
typedef struct sbx_verdict {
    // sizeof(sbx_verdict), or 0.
    uint32_t size;
    // 1 if it may be reached, 0 if not.
    int32_t allowed;
    // Why: SBX_REASON_....
    int32_t reason;
    // The place of the policy's entry that decided, or -1: sbx_policy_entry.
    int32_t entry;
    // The same for people, terminated.
    char detail[240];
} sbx_verdict;

// What a policy says apart from its entries. The caller owns it; zero it or use SBX_POLICY_SUMMARY_INIT.
typedef struct sbx_policy_summary {
    // sizeof(sbx_policy_summary), or 0.
    uint32_t size;
    // SBX_POLICY_...: the verdict for destinations that match no entry.
    int32_t mode;
    // SBX_DNS_...: which names the sandbox's resolver answers, as sbx_policy_set_dns was given it last.
    int32_t dns;
    // How many entries it has: sbx_policy_entry. A refused one doesn't count.
    uint32_t entry_count;
    // On how many ports beside 443 its domains are reached: sbx_policy_domain_port.
    uint32_t domain_port_count;
    // 0.
    uint32_t reserved;
} sbx_policy_summary;

// How a sandbox or a program executed in it ended. The caller owns it; zero it or use SBX_EXIT_INIT.
typedef struct sbx_exit {
    // sizeof(sbx_exit), or 0.
    uint32_t size;
    // Why: SBX_EXIT_.... It tells a program's own 124 or 137 apart from the library's.
    int32_t reason;
    // The program's own code; 128 + n for signal n; 124 when time ran out or it was idle; 137 when terminated.
    int32_t code;
    // The signal that ended the program, or 0.
    int32_t signal;
    // From the program's start to its end, in milliseconds.
    int64_t runtime_ms;
    // 0.
    int64_t reserved;
} sbx_exit;

// What the warm pool of a runtime, or one template of it, has and has done. The caller owns it; zero it or use
// SBX_WARM_STATS_INIT.
typedef struct sbx_warm_stats {
    // sizeof(sbx_warm_stats), or 0.
    uint32_t size;
    // Members that were asked for.
    uint32_t wanted;
    // Members that a creation can take now.
    uint32_t ready;
    // Members that are being made.
    uint32_t filling;
    // Creations that took a member.
    uint64_t hits;
    // Creations that found no member ready, or only one that has died.
    uint64_t misses_empty;
    // Creations whose settings were not the template's. Counted for the template that is most like them.
    uint64_t misses_different;
    // Creations for which the members were not current any more, because something on the host has changed.
    uint64_t misses_changed;
    // Members that ended unused: too old, not current, too many, or in the way of a creation.
    uint64_t discarded;
    // Members that could not be made, or that died.
    uint64_t failures;
    // Why the last creation that took none took none, for people; empty if there was none. Terminated.
    char last_miss[256];
    // Why the last member that failed did; empty if none has. Terminated.
    char last_failure[256];
} sbx_warm_stats;

// The bytes of a capture, which belong to it and live as long as it. The caller owns the struct; zero it or use
// SBX_OUTPUT_INIT.
typedef struct sbx_output {
    // sizeof(sbx_output), or 0.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // The first bytes of the stream, not terminated; NULL if there are none.
    const uint8_t *head;
    // How many bytes `head` has.
    size_t head_length;
    // The last bytes of the stream if it is longer than the head, not terminated; NULL if there are none.
    const uint8_t *tail;
    // How many bytes `tail` has.
    size_t tail_length;
    // How many bytes between head and tail were not kept.
    uint64_t dropped;
} sbx_output;

// How an operation on files is done. The caller owns it; zero it or use SBX_FILE_OPTIONS_INIT, which suits
// most, as NULL does. What an operation has no use for is SBX_EINVALID when it is set.
typedef struct sbx_file_options {
    // sizeof(sbx_file_options), or 0.
    uint32_t size;
    // SBX_FILE_..., added up.
    uint32_t flags;
    // The permissions of a file or directory that is made, exactly; a file that is there gets them too. 0:
    // 0644 for files and 0755 for directories, and what is there keeps its own.
    uint32_t mode;
    // 0.
    uint32_t reserved;
    // Where reading begins, for read and download.
    uint64_t offset;
    // The most bytes of a file or an archive, or entries of a list; more is SBX_ELIMIT. 0: 16 MiB for read and
    // write, 100,000 entries for list, and no limit for others. Read and write allow up to 1 GiB, list up to a
    // million.
    uint64_t limit;
    // The most milliseconds it may take; it then ends with SBX_ETIMEDOUT. 0 or negative: no limit. Not for a watch.
    int64_t time_limit_ms;
    // Whose rights it has: "name", "uid", "uid:gid" or "name:group", as the sandbox knows them. NULL: root.
    const char *user;
    // The most milliseconds without progress while it is the sandbox's turn; it then ends with SBX_ETIMEDOUT. Code
    // inside can stop the helper that does the work. 0: SBX_FILE_PROGRESS_TIMEOUT_MS; negative: no limit. Not for a
    // watch.
    int64_t progress_timeout_ms;
} sbx_file_options;

// How an image is pulled or imported. The caller owns it; zero it or use SBX_IMAGE_OPTIONS_INIT, which suits most, as
// NULL does. Texts are copied.
typedef struct sbx_image_options {
    // sizeof(sbx_image_options), or 0.
    uint32_t size;
    // What is imported: SBX_IMAGE_FORMAT_.... For import only.
    int32_t format;
    // The name that the image is stored under. NULL: a pulled image has its reference's, an imported one none but its
    // id.
    const char *tag;
    // Which one, where there are several: "os/architecture" or "os/architecture/variant", as "linux/arm64/v8". NULL:
    // this machine's.
    const char *platform;
    // Which image of an archive or a layout that has several: one of its names. For import only.
    const char *select;
    // For the registry, as are all fields down to `mirrors`: a user. NULL: as ~/.docker/config.json says, or no login.
    // For pull only.
    const char *username;
    // That user's password or token.
    const char *password;
    // Certificates, in PEM, of authorities that are trusted beside the system's.
    const char *ca_pem;
    // The absolute path of a program that speaks docker's protocol for credential helpers. It is asked before
    // ~/.docker/config.json.
    const char *credential_helper;
    // Mirrors, one a line: "registry=host", as "docker.io=mirror.example:5000". They are asked first, in this order.
    const char *mirrors;
    // The most bytes of the image's files. More is SBX_ELIMIT, as with all limits below. 0: 16 GiB.
    uint64_t limit_bytes;
    // The most entries: files, directories, links. 0: 1,000,000.
    uint64_t limit_entries;
    // How many times larger a layer may be than what it is compressed to, beyond its first 16 MiB. 0: 200.
    uint64_t limit_ratio;
    // The most bytes of memory for names and the like. 0: 512 MiB.
    uint64_t limit_memory_bytes;
    // How many directories a path may be deep. 0: 64.
    uint32_t limit_depth;
    // The most layers. 0: 127.
    uint32_t limit_layers;
} sbx_image_options;

// What is known of an image. Its texts belong to the image or to the list. The caller owns the struct; zero it or use
// SBX_IMAGE_SUMMARY_INIT.
typedef struct sbx_image_summary {
    // sizeof(sbx_image_summary), or 0.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // Its id: "sha256:" and 64 hexadecimal digits.
    const char *id;
    // Its names, one a line; empty if it has none.
    const char *tags;
    // Where it came from, for people: a reference, or "import".
    const char *source;
    // Its settings: the JSON of the OCI image specification (Entrypoint, Cmd, Env, User ...). NULL in a list.
    const char *config;
    // How many bytes it takes in the store.
    uint64_t bytes;
    // When it was stored, in milliseconds since 1970.
    int64_t created_ms;
    // When it was last used, in milliseconds since 1970.
    int64_t last_used_ms;
} sbx_image_summary;

// What is known of a volume. Its texts belong to the list. The caller owns the struct; zero it or use
// SBX_VOLUME_SUMMARY_INIT.
typedef struct sbx_volume_summary {
    // sizeof(sbx_volume_summary), or 0.
    uint32_t size;
    // 1 if a sandbox has it mounted, else 0.
    uint32_t in_use;
    // Its name.
    const char *name;
    // Its directory on this machine. What sandboxes wrote there is theirs: a host that reads it follows no links, and
    // trusts no content.
    const char *path;
    // When it was made, in milliseconds since 1970.
    int64_t created_ms;
} sbx_volume_summary;

// Where one port of a sandbox is reached. Its texts belong to the map. The caller owns the struct; zero it or use
// SBX_TUNNEL_INIT.
typedef struct sbx_tunnel {
    // sizeof(sbx_tunnel), or 0.
    uint32_t size;
    // SBX_PORT_....
    int32_t kind;
    // The port inside, as the config has it.
    uint32_t container_port;
    // The port on the host that the tunnel listens on.
    uint32_t port;
    // The address on the host that it listens on, or the name that its certificate is for.
    const char *host;
    // Its https:// URL; NULL if it is unencrypted.
    const char *url;
    // The certificate of the CA to trust, in PEM: see sbx_tunnel_map_ca_pem. NULL if it is unencrypted, or has the
    // host's own certificate.
    const char *ca_pem;
    // The pin of its certificate, as curl's --pinnedpubkey takes it: "sha256//" and the SHA-256 of its public key info
    // in base64. NULL if it is unencrypted.
    const char *spki_sha256;
} sbx_tunnel;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the running library, such as "0.2.0".
//
// The text is static. Any thread, never blocks, also in a child of fork.
const char *sbx_version(void);

// The version of the running library as a number like SBX_ABI_VERSION.
//
// A program may run with a library whose number is at least the SBX_ABI_VERSION it was compiled with and has the
// same major number (while that is 0, the same minor number too). Any thread, never blocks, also in a child of
// fork.
uint32_t sbx_abi_version(void);

// Sends the library's log to a descriptor: a socket, pipe, terminal or file.
//
// `level` is 0 nothing, 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing. With `fd` -1 or level 0
// nothing is logged, which is the default. No secret is logged at any level: no environment, no key, no data of
// tunnels.
//
// The descriptor is duplicated and stays the caller's. There is one log for the whole process. Any thread, never
// blocks, also not when the log's reader is slow: lines are lost then, and counted. While a line is written to
// anything but a socket, SIGPIPE and SIGXFSZ are blocked on the writing thread.
//
// Returns 0; SBX_EINVALID, SBX_ESYSTEM (not a usable descriptor), SBX_ESTATE (a Rust program that contains the
// library has a logger of its own).
int sbx_log_set_fd(int fd,
                   int32_t level);

// Makes a runtime: finds runsc, reads the environment, starts two threads.
//
// `config` may be NULL. Free the runtime with sbx_runtime_free. Any thread; blocks for some milliseconds, longer
// (but bounded) if runsc doesn't answer.
//
// Returns 0 and sets *runtime; SBX_EINVALID, SBX_ESIZE, SBX_EHOST, SBX_ERUNSC_MISSING, SBX_ERUNSC_UNUSABLE,
// SBX_ELIMIT, SBX_ESYSTEM.
int sbx_runtime_new(const struct sbx_runtime_config *config,
                    struct sbx_runtime **runtime,
                    struct sbx_error *error);

// The doctor: checks everything that a runtime made with this config needs of the host.
//
// What is missing is in the report, and is not an error of the call. `config` may be NULL. Free the report with
// sbx_report_free. Any thread; blocks for some hundred milliseconds, since runsc is run (bounded). Hosts with an event
// loop use sbx_runtime_check_begin.
//
// Returns 0 and sets *report; SBX_EINVALID, SBX_ESIZE, SBX_ELIMIT.
int sbx_runtime_check(const struct sbx_runtime_config *config,
                      struct sbx_report **report,
                      struct sbx_error *error);

// Begins sbx_runtime_check: sbx_operation_report.
//
// The event of its end is SBX_EVENT_CHECKED. It comes late or never where what is looked at hangs (runsc on a dead
// mount); an operation that is cancelled ends at once, and the thread that looks goes on. At most 8 look at the same
// time. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ECLOSED, SBX_ELIMIT, SBX_ESYSTEM.
int sbx_runtime_check_begin(const struct sbx_runtime_config *config,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Lists the sandboxes of a runtime (NULL: the default one) that have not ended, as they are at this moment.
//
// Free the list with sbx_sandbox_list_free. Any thread, never blocks.
//
// Returns 0 and sets *list; SBX_EINVALID, SBX_ELIMIT. With NULL also the errors of sbx_runtime_new, except
// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_runtime_sandboxes(struct sbx_runtime *runtime,
                          struct sbx_sandbox_list **list,
                          struct sbx_error *error);

// Ends every sandbox of a runtime, its operations on images and both its threads, and frees it.
//
// Its sandboxes end as by sbx_terminate, and calls that wait for them return as they do then; the operations end with
// SBX_ECLOSED. The sandboxes' handles stay valid and are freed as usual.
// Any thread; blocks until everything is gone (bounded). A thread that hangs on the host (on a mount) is left
// behind.
void sbx_runtime_free(struct sbx_runtime *runtime);

// Whether sandboxes can be created: nothing is missing.
//
// Returns 1 or 0.
int sbx_report_usable(const struct sbx_report *report);

// How many findings there are.
//
// Returns the count.
int sbx_report_count(const struct sbx_report *report);

// Reads one finding, from 0.
//
// Returns 0 and fills *finding; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
int sbx_report_finding(const struct sbx_report *report, size_t index, struct sbx_finding *finding);

// The whole report as one line of JSON.
//
// An object with "version" (the library's), "usable" (true or false) and "findings", a list of objects with "name",
// "status" ("ok", "limited" or "missing"), "detail" and "remedy", which is empty where nothing is to be done. Later
// versions may add members. Any thread, never blocks. The text lives as long as the report.
//
// Returns NULL for a bad handle.
const char *sbx_report_json(const struct sbx_report *report);

// Frees a report and its texts.
void sbx_report_free(struct sbx_report *report);

// How many sandboxes are in the list.
//
// Returns the count.
int sbx_sandbox_list_count(const struct sbx_sandbox_list *list);

// Reads one entry of a list, from 0.
//
// Returns 0 and fills *entry; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
int sbx_sandbox_list_entry(const struct sbx_sandbox_list *list,
                           size_t index,
                           struct sbx_sandbox_entry *entry);

// Frees a list and its texts.
void sbx_sandbox_list_free(struct sbx_sandbox_list *list);

// Makes a queue in which up to `capacity` events wait, from 1 to 65536.
//
// What does not fit is dropped and counted in the last waiting event's `lost`. What is waited for is never dropped:
// SBX_EVENT_STARTED, FAILED, EXITED, PROCESS_STARTED, PROCESS_EXITED, POLICY_APPLIED, OPERATION_DONE and CHECKED.
// After a loss, sbx_wait_ready and sbx_operation_next_change tell what READY and FILE_CHANGED would have. Free
// the queue with sbx_queue_free. Any thread, never blocks.
//
// Returns 0 and sets *queue; SBX_EINVALID, SBX_ELIMIT.
int sbx_queue_new(uint32_t capacity,
                  struct sbx_queue **queue,
                  struct sbx_error *error);

// Opens the queue's doorbell: a descriptor that becomes readable when the queue becomes non-empty.
//
// It is one end of an AF_UNIX stream pair, non-blocking and close-on-exec, for epoll, libuv, Node's net.Socket,
// asyncio or Go's netpoller. The caller owns and closes it. When it is readable, read its bytes and discard them
// (they mean nothing), then call sbx_queue_next until it returns 0. Opening the doorbell again replaces the
// earlier one, which then reads end-of-file; so does freeing the queue. Any thread, never blocks.
//
// Returns the descriptor; SBX_ECLOSED, SBX_ESYSTEM.
int sbx_queue_open_fd(struct sbx_queue *queue,
                      struct sbx_error *error);

// Takes the oldest event.
//
// Any thread, never blocks: wait with sbx_queue_open_fd.
//
// Returns 1 and fills *event, or 0 when there is none; SBX_ESIZE, SBX_EINVALID. On failure no event is taken.
int sbx_queue_next(struct sbx_queue *queue, struct sbx_event *event, struct sbx_error *error);

// Frees a queue. Events in it, and those that come later, are discarded.
//
// Sandboxes that use it live on. Any thread, never blocks.
void sbx_queue_free(struct sbx_queue *queue);

// Waits until an operation has ended, and returns how.
//
// Any thread, any number of times; blocks for `timeout_ms`.
//
// Returns 0 if it was done; SBX_ETIMEDOUT if it goes on; else its own error: SBX_ECLOSED if it was cancelled, others as
// its ..._begin function says. An operation can end with SBX_ETIMEDOUT, too, as a file operation does that has reached a
// limit of its options: sbx_operation_count says whether it has ended.
int sbx_operation_wait(const struct sbx_operation *operation,
                       int64_t timeout_ms,
                       struct sbx_error *error);

// Ends an operation that goes on, with SBX_ECLOSED and its event. What it has done so far stays done.
//
// One that has ended stays as it ended, and a change of a policy can't be stopped. Any thread, never blocks.
//
// Returns 0.
int sbx_operation_cancel(struct sbx_operation *operation, struct sbx_error *error);

// The connection of sbx_connect_begin, or the host's end of the stream of a download, upload, copy in or copy out. Once.
//
// An AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Write to it with send and
// MSG_NOSIGNAL. A connection is there when the operation has ended, a stream from the beginning.
//
// What is read from a stream up to its end is complete only if sbx_operation_wait returns 0; what is written is complete
// when its end is shut down or closed, and was stored only if that returns 0. When the operation ends the library shuts
// the stream down, whatever the sandbox does with its end. To give up in the middle, cancel the operation before closing.
// Any thread, never blocks.
//
// Returns the descriptor; SBX_ESTATE (it goes on, has no descriptor, or that was opened before), the operation's own
// error.
int sbx_operation_open_fd(struct sbx_operation *operation,
                          struct sbx_error *error);

// The bytes of sbx_file_read_begin, not terminated; `length` gets their number. They live as long as the handle.
//
// Any thread, never blocks. NULL for a bad handle, when `length` is NULL, or if the operation was not done.
const uint8_t *sbx_operation_bytes(const struct sbx_operation *operation,
                                   size_t *length);

// Whether an operation has ended, and how many entries it has found: those of a list, or the one that was described.
//
// Any thread, never blocks.
//
// Returns SBX_ESTATE while it goes on; then the count, which is 0 if it failed or isn't one that finds entries.
int sbx_operation_count(const struct sbx_operation *operation);

// One of the entries that a file operation has found, by its place from 0.
//
// Any thread, never blocks.
//
// Returns 0 and fills *entry; SBX_ENOTFOUND (the index), SBX_ESTATE (it goes on), the operation's own error,
// SBX_EINVALID, SBX_ESIZE.
int sbx_operation_entry(const struct sbx_operation *operation,
                        size_t index,
                        struct sbx_file_entry *entry,
                        struct sbx_error *error);

// What a file operation has done, as the sandbox reports it; what sbx_image_prune_begin has removed; what is in the image of
// a snapshot; or what was copied of an image.
//
// Any thread, never blocks.
//
// Returns 0 and fills *totals; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
int sbx_operation_totals(const struct sbx_operation *operation,
                         struct sbx_file_totals *totals,
                         struct sbx_error *error);

// Takes the next change of a watch, in the order in which they happened.
//
// `path` gets where, relative to the directory, with a NUL behind it: bytes, not always UTF-8. `capacity` is the size
// of that place: 4096, so that every path fits. Any thread; blocks for `timeout_ms`.
//
// Returns SBX_CHANGE_...; SBX_ETIMEDOUT (nothing has changed), SBX_ESTATE (the directory is gone, or the sandbox has
// ended), the operation's own error, SBX_EINVALID.
int sbx_operation_next_change(struct sbx_operation *operation,
                              int64_t timeout_ms,
                              char *path,
                              size_t capacity,
                              struct sbx_error *error);

// The policy of sbx_sandbox_policy_begin and its generation, or the generation of sbx_set_policy_begin.
//
// `policy` gets a copy, to be freed with sbx_policy_free; it or `generation` may be NULL, and after sbx_set_policy_begin
// `policy` must be. Any thread, any number of times, never blocks.
//
// Returns 0 and sets *policy and *generation; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID,
// SBX_ELIMIT.
int sbx_operation_policy(const struct sbx_operation *operation,
                         struct sbx_policy **policy,
                         uint64_t *generation,
                         struct sbx_error *error);

// The statistics of sbx_sandbox_stats_begin, as they were when it ended.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and fills *stats; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
int sbx_operation_stats(const struct sbx_operation *operation,
                        struct sbx_stats *stats,
                        struct sbx_error *error);

// The report of sbx_runtime_check_begin, to be freed with sbx_report_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *report; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
int sbx_operation_report(const struct sbx_operation *operation,
                         struct sbx_report **report,
                         struct sbx_error *error);

// The image of sbx_image_pull_begin, sbx_image_import_begin, sbx_image_build_begin, sbx_image_find_begin,
// sbx_sandbox_snapshot_begin or sbx_sandbox_snapshot_directory_begin, to be freed with sbx_image_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *image; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
int sbx_operation_image(const struct sbx_operation *operation,
                        struct sbx_image **image,
                        struct sbx_error *error);

// The images of sbx_image_list_begin, to be freed with sbx_image_list_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *list; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
int sbx_operation_images(const struct sbx_operation *operation,
                         struct sbx_image_list **list,
                         struct sbx_error *error);

// The volumes of sbx_volume_list_begin, or the one of sbx_volume_create_begin or sbx_volume_find_begin, to be freed with
// sbx_volume_list_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *list; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
int sbx_operation_volumes(const struct sbx_operation *operation,
                          struct sbx_volume_list **list,
                          struct sbx_error *error);

// Frees an operation and its result, and cancels it if it still goes on; NULL is allowed.
//
// Descriptors that were opened stay the caller's. Any thread, never blocks.
void sbx_operation_free(struct sbx_operation *operation);

// Makes a policy without entries. Its mode is the verdict for destinations that match no entry:
//
// SBX_POLICY_OPEN allows every public address. It is what a config without a policy has. Loopback, private,
// link-local, shared (CGNAT), multicast and reserved addresses stay denied, and so do metadata services, public
// ranges of a provider's internal services (IBM's 161.26.0.0/16 and 166.8.0.0/14), the host's own addresses, and
// the neighbours on its links, also at public addresses (sbx_policy_allow_local_cidr opens those). The host's
// routing table says at that moment which addresses are its own and its neighbours': a neighbour is reached
// without a gateway by the most specific route, unless that is a default route (0/0, or the halves 0/1 and 128/1)
// or leads over a point-to-point link. A cloud's public address for the host that isn't configured on it can't be
// known: deny it with sbx_policy_deny_cidr.
//
// SBX_POLICY_ALLOWLIST denies everything that no entry allows. A range opens private or otherwise special
// addresses only if it lies inside the special range (10.1.0.0/16 does, 0.0.0.0/0 doesn't), neighbours at public
// addresses only if it lies inside their link's range, and a metadata service or an address of the host only if it
// is exactly that address (/32, /128).
//
// SBX_POLICY_BLOCKED is no network at all: nothing leaves, and there are no tunnels. A config with it and a port
// or an inbound allowlist is refused.
//
// Free it with sbx_policy_free. Any thread, never blocks.
//
// Returns 0 and sets *policy; SBX_EINVALID (the mode), SBX_ELIMIT (no handle is left).
int sbx_policy_new(int32_t mode,
                   struct sbx_policy **policy,
                   struct sbx_error *error);

// Allows a range such as "192.0.2.0/24" or "2001:db8::/32", for any protocol. Only an allowlist takes it.
//
// The range must be written in plain form: no bits behind the prefix, no missing prefix, no leading zeros, no
// IPv4-mapped address, no zone, no name. One thread at a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT.
int sbx_policy_allow_cidr(struct sbx_policy *policy, const char *cidr);

// Allows neighbours on the host's own links at public addresses in this range, which an open policy denies
// otherwise (SBX_REASON_ON_LINK). Only an open policy takes it.
//
// Private and special ranges, metadata services and the host's own addresses stay denied. In an allowlist,
// sbx_policy_allow_cidr with a range inside the link's does the same. Forms and threads as for
// sbx_policy_allow_cidr.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT.
int sbx_policy_allow_local_cidr(struct sbx_policy *policy, const char *cidr);

// Denies a range. It wins over everything that allows. Open policies and allowlists take it.
//
// Forms and threads as for sbx_policy_allow_cidr.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT.
int sbx_policy_deny_cidr(struct sbx_policy *policy, const char *cidr);

// Allows a domain: a host name ("example.com"), or "*." and a host name ("*.example.com"), which matches every
// name below that one, at any depth, but not the name itself. Only an allowlist takes domains.
//
// A sandbox reaches a domain by TLS only, on port 443 and those of sbx_policy_add_domain_port: at an address that
// the sandbox's own resolver answered for that name a short while ago, and with that name as the handshake's
// server name (SNI). Domains and ranges add up: what either allows is allowed. QUIC (UDP) shows no server name, so
// it needs a range; clients fall back to TLS. Denied ranges and protected addresses stay denied.
//
// Names must be written in plain form: letters, digits and hyphens, other scripts as A-labels (xn--...), no
// trailing dot, no address, no scheme, no port. Case doesn't matter. One thread at a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT.
int sbx_policy_allow_domain(struct sbx_policy *policy,
                            const char *pattern);

// Allows the policy's domains, by TLS, on this port too, from 1 to 65535, beside 443. Only an allowlist takes it.
// One thread at a time sets; never blocks.
//
// Returns 0 or SBX_EINVALID.
int sbx_policy_add_domain_port(struct sbx_policy *policy,
                               uint32_t port);

// Sets which names the sandbox's resolver answers: SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES.
//
// A name that isn't answered gets REFUSED at once (with the extended error 15, "blocked"), and no query for it
// leaves the machine. With SBX_DNS_ON the sandbox of an allowlist can look up every name but reaches no more than
// before; the queries themselves can carry data out. An open policy passes every query on to the host's own name
// servers, also for names of the host's internal zones and of private addresses (PTR); only private addresses are
// removed from the answers. With SBX_DNS_ADDRESSES nothing but the public addresses of names is revealed: only A,
// AAAA, HTTPS and SVCB are asked for, and answers contain no alias, server or signature. SBX_DNS_OFF and domains
// exclude each other, which is an error when the policy is used. One thread at a time sets; never blocks.
//
// Returns 0 or SBX_EINVALID.
int sbx_policy_set_dns(struct sbx_policy *policy,
                       int32_t mode);

// Evaluates a policy for one address and reports the reason. Needs no sandbox and sends no packets.
//
// An address that is allowed only as a domain's counts as not listed here: whether it can be reached depends on
// what the sandbox's resolver answered and on the server that the TLS handshake names.
//
// `address` is an IPv4 or IPv6 address in plain form, `port` 1 to 65535 (no entry names ports yet: it is only
// checked), `protocol` the number of an IP protocol (6 is TCP, 17 UDP; nothing else leaves a sandbox). The host's
// own addresses and its neighbours' are looked up in its routing table. Any thread, never blocks.
//
// Returns 0 and fills *verdict; SBX_EINVALID (also for a policy with a bad entry, which the message names),
// SBX_ESIZE, SBX_ESYSTEM (the routing table can't be read).
int sbx_policy_check(const struct sbx_policy *policy,
                     const char *address,
                     uint32_t port,
                     uint32_t protocol,
                     struct sbx_verdict *verdict,
                     struct sbx_error *error);

// Frees a policy. Configs and sandboxes have copies of their own. Any thread, never blocks.
void sbx_policy_free(struct sbx_policy *policy);

// Reads what a policy says apart from its entries.
//
// Any thread, never blocks.
//
// Returns 0 and fills *summary; SBX_EINVALID, SBX_ESIZE.
int sbx_policy_info(const struct sbx_policy *policy, struct sbx_policy_summary *summary);

// A port on which the policy's domains are reached beside 443. `index` is from 0; ports are in ascending order.
//
// Any thread, never blocks.
//
// Returns the port; SBX_ENOTFOUND (the index).
int sbx_policy_domain_port(const struct sbx_policy *policy,
                           size_t index);

// An entry of a policy as text: "allow 192.0.2.0/24", "deny 2001:db8::/32", "domain *.example.com",
// "local 192.0.2.0/24".
//
// `index` is the entry's place from 0, in the order in which they were added: what sbx_verdict.entry and
// sbx_event.entry say. The text lives as long as the policy. Any thread, never blocks. NULL for a bad handle and
// an index that there is no entry for.
const char *sbx_policy_entry(const struct sbx_policy *policy,
                             size_t index);

// Makes a config with the defaults: no command, a curated view of the host's programs as root file system, no
// ports, an open policy, 300 s of life.
//
// Free it with sbx_config_free. Any thread, never blocks.
//
// Returns 0 and sets *config; SBX_EINVALID, SBX_ELIMIT (no handle is left).
int sbx_config_new(struct sbx_config **config, struct sbx_error *error);

// Checks a config: returns the first bad value, or the first rule between settings that is broken. It looks at the
// config only, not at the host.
//
// Returns 0; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_ELIMIT.
int sbx_config_check(const struct sbx_config *config,
                     struct sbx_error *error);

// Frees a config. Sandboxes made with it are not affected.
void sbx_config_free(struct sbx_config *config);

// Sets the program and its arguments: `argc` texts.
//
// Linux's limits hold: each text is shorter than 131072 bytes, and together with the environment they have at most
// 2097152, with 9 more counted for each. The first is looked up in the PATH of the sandbox's environment unless it
// contains a slash. A sandbox without a command runs nothing by itself: it waits for sbx_exec until its time is
// over or it is ended.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_command(struct sbx_config *config,
                           const char *const *argv,
                           size_t argc);

// Sets an environment variable for all programs of the sandbox; setting the same name again replaces it.
//
// Names match ^[a-zA-Z_][a-zA-Z0-9_]*$. The bounds are those of arguments, which `NAME=value` counts among. Values
// are never logged and never written to a file.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_env(struct sbx_config *config,
                       const char *name,
                       const char *value);

// Sets a secret environment variable: as sbx_config_set_env does, and the library overwrites its copies of the
// value as soon as they are no longer needed (this config's with the last sandbox made with it). Inside, every
// process of the same user, and of root, can read it.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_secret(struct sbx_config *config,
                          const char *name,
                          const char *value);

// Sets the directory inside that the program starts in, an absolute path (default "/"). If it doesn't exist, it is
// made, with its parents, owned by the sandbox's root, with mode 0755.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_workdir(struct sbx_config *config,
                           const char *path);

// Sets the user that the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox (default its
// root). A uid without an entry in its /etc/passwd gets the group of the same number (on an image group 0, as in
// docker), no further groups, and the home "/".
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_user(struct sbx_config *config,
                        const char *user);

// Sets the sandbox's host name: labels of letters, digits and inner hyphens (RFC 1123), at most 64 bytes.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_hostname(struct sbx_config *config, const char *name);

// Sets the sandbox's name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit. No two live sandboxes of
// a runtime have the same name.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_name(struct sbx_config *config,
                        const char *name);

// Sets a tag, for the host's own use: sbx_sandbox_tag. Setting the same name again replaces it. Names have the
// form of sandboxes' names, values at most 256 bytes; a sandbox has at most 64 tags.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_tag(struct sbx_config *config,
                       const char *name,
                       const char *value);

// Sets a directory of the host as the root file system. Without it a curated view of the host is used: programs in
// /usr, /bin, /lib that everybody on the host may read, and a generated /etc. Either is under a memory overlay:
// all of it can be written inside, and nothing on the host changes.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_rootfs(struct sbx_config *config,
                          const char *directory);

// Sets an image as the root file system. What its config says holds where this config says nothing: its Entrypoint, Cmd,
// Env, WorkingDir and User, by docker's rules. All of it can be written inside, and nothing in the image changes.
//
// The image's handle may be freed after.
//
// Returns 0, SBX_EHANDLE or SBX_EINVALID.
int sbx_config_set_image(struct sbx_config *config,
                         const struct sbx_image *image);

// Has a snapshot taken when the sandbox ends, as sbx_sandbox_snapshot_begin does: when its program has ended, its time or its
// idle time is over, or it is terminated or stopped. `tag` is a name for the image, or NULL. It needs sbx_config_set_image.
//
// The programs are killed, and tunnels and connections closed; then the changes are stored, for which the sandbox lives for
// up to 60 seconds more, and after that it ends. Four of a runtime are stored at a time, and others wait for their turn, each
// for up to 10 minutes before its 60 seconds begin; pulls, imports and builds keep none waiting. SBX_EVENT_EXIT_SNAPSHOT and sbx_sandbox_exit_image give the image, or say
// why there is none: the sandbox was out of memory, its engine was lost, it took too long, or the host did not want to wait
// (a second sbx_terminate, or sbx_sandbox_free). A host that is killed takes its sandboxes along, without a snapshot. What a
// snapshot has is said at sbx_sandbox_snapshot_begin.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_exit_snapshot(struct sbx_config *config,
                                 const char *tag);

// Mounts an image's files read-only at `destination`, an absolute path as sbx_config_add_mount takes it. It takes no time
// and no copy. A sandbox has at most 16 of these.
//
// Returns 0, SBX_EHANDLE or SBX_EINVALID.
int sbx_config_add_image_mount(struct sbx_config *config,
                               const struct sbx_image *image,
                               const char *destination);

// Sets the program that the command's arguments are for, in place of the image's Entrypoint, whose Cmd is not used then;
// `argc` 0 is none. Without an image it comes before the command.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_entrypoint(struct sbx_config *config,
                              const char *const *argv,
                              size_t argc);

// Says that the sandbox has no program of its own, not the image's either: it waits for sbx_exec. Without an image that is
// the default.
//
// Returns 0.
int sbx_config_set_no_command(struct sbx_config *config);

// Mounts a file or directory of the host inside: read-only, or with SBX_MOUNT_WRITABLE in `flags` writable.
//
// Both paths are absolute; the destination is not "/", nor in /proc, /dev or /sys, nor used twice. What the sandbox
// writes to a writable mount is on the host, as the host's user. It can make files executable there, but not set-id:
// a mode with such a bit fails with EPERM or is not taken.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_mount(struct sbx_config *config,
                         const char *source,
                         const char *destination,
                         uint32_t flags);

// Sets how long the sandbox may live, in milliseconds, more than 0 (default 300000). Then it is ended with code
// 124 and SBX_EXIT_TIMED_OUT.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_timeout_ms(struct sbx_config *config,
                              int64_t timeout_ms);

// Sets how long the sandbox may be idle, in milliseconds, more than 0 (default: as long as it lives). Then it is
// ended with code 124 and SBX_EXIT_IDLE.
//
// It is idle while no program of sbx_exec runs or is being started, no operation on files goes on except watches,
// no byte passes a tunnel or sbx_connect, and nothing is written to its program's standard input. What that
// program does by itself doesn't count, nor does a connection on which nothing is sent.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_idle_timeout_ms(struct sbx_config *config,
                                   int64_t idle_timeout_ms);

// Limits the sandbox's memory, in bytes, at least 64 MiB. What counts is the programs' memory, their files in
// memory (all that they write, except to mounts), and gVisor's own, about 20 MB. A sandbox that needs more ends
// with SBX_EXIT_OUT_OF_MEMORY.
//
// The kernel enforces it by a cgroup that the library makes below the process's own. As root that works as it is;
// an ordinary user's cgroup must be delegated (systemd-run --user --scope -p Delegate=yes PROGRAM). Otherwise
// creating the sandbox fails with SBX_EHOST, or sbx_config_set_limit_mode says what happens instead. Where cgroup
// v2 allows no processes beside sub-cgroups, the processes of the delegated cgroup are moved to a sub-cgroup of
// it, "sbx-host".
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_memory_bytes(struct sbx_config *config,
                                uint64_t bytes);

// Limits the sandbox's processor time, in thousandths of a processor (1500 is one and a half), at least 10.
// gVisor's own counts. Only a cgroup can enforce it: see sbx_config_set_memory_bytes.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_millicpus(struct sbx_config *config, uint32_t millicpus);

// Limits the processes and threads inside, from 1 to 65535 (default 4096). gVisor enforces it: fork(2) fails with
// EAGAIN. It counts for each user inside. Root there can become other users; what it can't do is exceed gVisor's
// own 65536 or the memory limit.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_max_processes(struct sbx_config *config,
                                 uint32_t count);

// Limits the bytes that may be written, at least 64 KiB. gVisor enforces it: write(2) fails with ENOSPC.
//
// The limit is for the root file system, and the same again for each of /tmp and /dev/shm. These files are kept in the
// host's memory, so they count for sbx_config_set_memory_bytes, too. Writes to mounts go to the host's file systems and
// aren't counted. Files that root inside makes in /dev are limited by sbx_config_set_memory_bytes only (gVisor's file
// system there has no size).
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_disk_bytes(struct sbx_config *config,
                              uint64_t bytes);

// Limits the descriptors of each process inside, from 8 to 1048576 (default: 1024, which programs may raise to
// 1048576 themselves). gVisor enforces it. They cost the host memory, but no descriptors.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_max_open_files(struct sbx_config *config,
                                  uint32_t count);

// Sets what to do if the kernel can't enforce the memory limit: SBX_LIMITS_STRICT (the default), or
// SBX_LIMITS_WATCHDOG.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_limit_mode(struct sbx_config *config, int32_t mode);

// Adds a tunnel to a port inside, from 1 to 65535: SBX_PORT_ENCRYPTED, SBX_PORT_H2 or SBX_PORT_UNENCRYPTED.
//
// A port is listed once, of whatever kind. The tunnel listens on 127.0.0.1, on a port that the kernel picks; see
// sbx_config_bind_port. Every user of this machine can connect to it there: a loopback address has no owner. Where
// that matters, let the server inside ask for a secret.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_port(struct sbx_config *config,
                        uint32_t container_port,
                        int32_t kind);

// Sets where the tunnel of a listed port listens on the host: an IPv4 or IPv6 address, and a port, or 0 for one
// that the kernel picks. Any address but a loopback one lets other machines reach the server inside: see
// sbx_config_set_inbound_cidr_allowlist.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_bind_port(struct sbx_config *config,
                         uint32_t container_port,
                         const char *address,
                         uint32_t host_port);

// Adds an upstream DNS server for the sandbox, in place of those of the host's /etc/resolv.conf: an address
// ("192.0.2.53", "2001:db8::53"), or an address and a port ("127.0.0.1:5353", "[2001:db8::53]:5353"). Servers that
// are added later are asked when earlier ones don't answer. At most 8.
//
// The host asks it, so it may be at any address that the host reaches, also at one that the sandbox doesn't.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_nameserver(struct sbx_config *config,
                              const char *address);

// Sets who may connect to the tunnels: only peers in one of `count` ranges, in the form of sbx_policy_allow_cidr.
// A count of 0 lets no peer in; without this call every peer that reaches the address may connect.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_inbound_cidr_allowlist(struct sbx_config *config,
                                          const char *const *ranges,
                                          size_t count);

// Sets the certificate of encrypted tunnels: a chain, the leaf first, and its unencrypted key, both PEM. Without
// it the library makes one under a CA of the sandbox's own: sbx_tunnel_map_ca_pem. The key is never logged. It can
// be ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 to 4096 bits.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_tls_certificate(struct sbx_config *config,
                                   const char *chain_pem,
                                   const char *key_pem);

// Adds a DNS name ("*." in front for a wildcard) or address that the certificate made by the library is valid for,
// beside 127.0.0.1, ::1 and localhost. Not together with sbx_config_set_tls_certificate.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_tls_name(struct sbx_config *config,
                            const char *name);

// Sets how many new connections a second the tunnels of the sandbox take together while another sandbox of the runtime is
// served, and until ten seconds after: 1 to 1,000,000. 0 is the default, which is 250 for each processor that this process
// may use, and a negative number is no limit.
//
// Those of two seconds may come at once. Further ones wait in the listeners' queues, and their clients see a connection that
// isn't answered yet. A port that others leave no room takes one every 10 ms, or as often as the rate if that is lower. A
// sandbox that is served alone is not slowed down. At a high rate, or without one, the clients of one sandbox can take the
// processors from the others: what a connection costs its clients, the kernel and the programs inside is several times what
// it costs the library, which shares only its own time among the sandboxes.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_tunnel_rate(struct sbx_config *config,
                               int32_t new_connections_per_second);

// Sets what the sandbox may reach. The policy is copied; its first bad entry, if any, becomes the config's.
// Without a policy it is SBX_POLICY_OPEN: every public address, and nothing of the host or its networks.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_policy(struct sbx_config *config, const struct sbx_policy *policy);

// Limits what leaves the sandbox; 0 is the default or none.
//
// At most `max_flows` connections and UDP flows are open at once (default 16,384), and `new_flows_per_second` may
// begin within a second (default: 200, and 2,000 at once after a quiet while): a connection beyond that is reset
// at once, a datagram dropped. Beyond `bytes_per_second`, both directions together, the library reads no more
// until there is room, which slows the sender down. When `total_bytes` have passed, every flow is reset and no
// further one is let through. Each of these except `bytes_per_second` is reported as SBX_EVENT_LIMIT, every ten
// seconds at most.
//
// The resolver's queries for the sandbox and their answers count as bytes that pass, and wait for room like
// others: when `total_bytes` have passed, no query leaves, and a name that isn't known already is REFUSED. The
// resolver takes a thousand queries a second, and a thousand at once after a pause. More of them wait over TCP;
// over UDP those that find no room are lost.
//
// Each connection takes a local port of the host towards its destination and, if the sandbox closes it first,
// keeps it for a minute (TIME_WAIT). Towards one destination all sandboxes together get three quarters of these
// ports, and one of *n* sandboxes 1/(*n* + 1) of that. A connection beyond that is reset at once, with
// SBX_EVENT_LIMIT.
//
// What the kernel buffers in sockets is the host's memory. When the connections of one of *n* sandboxes together
// hold more than 1/(*n* + 1) of half the second number of net.ipv4.tcp_mem, but 16 MiB at least and 256 MiB at most,
// those with more than their share and new ones get small buffers, which slows them down and cuts none, with
// SBX_EVENT_LIMIT. If they go on to hold twice as much, those with more than their share are reset, the longest
// silent first, until it is less, with another SBX_EVENT_LIMIT. The same holds for the connections of its tunnels.
//
// Each UDP flow takes a local port of the host: all sandboxes together get a quarter of them
// (net.ipv4.ip_local_port_range), and one of *n* sandboxes 1/(*n* + 1) of that. When there is no room, flows that
// have been silent for a second are dropped first.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_egress_limits(struct sbx_config *config,
                                 uint32_t max_flows,
                                 uint32_t new_flows_per_second,
                                 uint64_t bytes_per_second,
                                 uint64_t total_bytes);

// Makes a TCP port of the sandbox's gateway, 192.0.0.1, lead to an address that the host names, such as
// "127.0.0.1:8080" or "[::1]:8080": a proxy of the host's for models, say.
//
// Nothing else at that address can be reached by it. A policy neither opens nor closes it; the egress limits hold
// for it too. Port 53 is refused: it is the sandbox's resolver. At most 16.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_host_service(struct sbx_config *config,
                                uint32_t port,
                                const char *address);

// Sets the MTU of the sandbox's interface, from 1280 to 9000 bytes (default 1500).
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_mtu(struct sbx_config *config, uint32_t bytes);

// Sets what SBX_STDIN, SBX_STDOUT or SBX_STDERR is connected to: SBX_STREAM_NULL (the default),
// SBX_STREAM_DESCRIPTOR or, for SBX_STDERR, SBX_STREAM_MERGED.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_stream(struct sbx_config *config, int32_t stream, int32_t mode);

// Captures SBX_STDOUT or SBX_STDERR: its first `head_bytes` and its last `tail_bytes` bytes are kept for
// sbx_sandbox_capture. Each is at most 16 MiB, not both 0; 65536 each is a good choice.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_capture_stream(struct sbx_config *config,
                              int32_t stream,
                              size_t head_bytes,
                              size_t tail_bytes);

// Probes readiness by TCP: the server inside is ready when a connection to its port succeeds. It is tried every
// `interval_ms` milliseconds, more than 0 (100 is a good choice). A sandbox has at most one probe: sbx_wait_ready,
// SBX_EVENT_READY.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_tcp_probe(struct sbx_config *config,
                             uint32_t port,
                             int64_t interval_ms);

// Probes readiness by a program: the server inside is ready when the program ends with code 0. It is run every
// `interval_ms` milliseconds, more than 0. The arguments are bounded as in sbx_config_set_command.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_exec_probe(struct sbx_config *config,
                              const char *const *argv,
                              size_t argc,
                              int64_t interval_ms);

// Sets where the sandbox's events go, and the cookie that they carry, a number of the host's own. The queue may be
// freed before the sandbox ends.
//
// Returns 0 or SBX_EINVALID.
int sbx_config_set_queue(struct sbx_config *config,
                         struct sbx_queue *queue,
                         uint64_t cookie);

// Creates a sandbox and waits until its program was started.
//
// `runtime` NULL is the default runtime. The config stays the caller's. Free the sandbox with
// sbx_sandbox_free, which also ends it. Any thread; blocks for some hundred milliseconds (where the host hangs, for
// 120 s of planning and 60 s of starting at most). Hosts with an event loop use sbx_create_begin.
//
// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EEXISTS (the name, or a port to listen on), SBX_EEXEC (the program),
// SBX_EHOST, SBX_ERUNSC_MISSING, SBX_ERUNSC_UNUSABLE, SBX_EENGINE, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM. Nothing
// is left of a sandbox that failed.
int sbx_create(struct sbx_runtime *runtime,
               const struct sbx_config *config,
               struct sbx_sandbox **sandbox,
               struct sbx_error *error);

// Begins to create a sandbox and returns at once.
//
// It ends with SBX_EVENT_STARTED or SBX_EVENT_FAILED on the config's queue; sbx_sandbox_state and
// sbx_sandbox_failure report it too. The handle is valid from now on, whatever happens. What is wrong with the
// config, and a name that is taken, is returned by this call. Whatever needs a look at the host (a port, a
// directory, runsc, limits) is reported later, with the code and text that sbx_create has for it. Any thread,
// never blocks: what hangs on the host (a mount, runsc) delays this sandbox only, at most as long as sbx_create
// may take, and the sandbox can be ended meanwhile.
//
// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EEXISTS, SBX_ELIMIT, SBX_EHOST (no /proc),
// SBX_ECLOSED, SBX_ESYSTEM.
int sbx_create_begin(struct sbx_runtime *runtime,
                     const struct sbx_config *config,
                     struct sbx_sandbox **sandbox,
                     struct sbx_error *error);

// Waits until the listeners of the sandbox's tunnels exist and returns where they are.
//
// That a tunnel exists doesn't mean that the server inside answers: see sbx_wait_ready. Free the map with
// sbx_tunnel_map_free. Any thread; blocks.
//
// Returns 0 and sets *tunnels; SBX_ETIMEDOUT, SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_EINVALID, SBX_ELIMIT; if
// the sandbox could not be created, that error.
int sbx_tunnels(struct sbx_sandbox *sandbox,
                int64_t timeout_ms,
                struct sbx_tunnel_map **tunnels,
                struct sbx_error *error);

// Waits until the server inside answers: the config's probe, or without one a connection to the first port listed.
// With neither there is nothing to ask: SBX_EINVALID.
//
// Any thread; blocks. Hosts with an event loop call it with a timeout of 0: that polls, and without a probe in the
// config it starts probing, so that SBX_EVENT_READY follows.
//
// Returns 0; SBX_ETIMEDOUT, SBX_EINVALID (nothing to ask), SBX_ESTATE (it has ended), SBX_ECLOSED; if the sandbox
// could not be created, that error.
int sbx_wait_ready(struct sbx_sandbox *sandbox,
                   int64_t timeout_ms,
                   struct sbx_error *error);

// Waits until the sandbox has ended and nothing of it is left.
//
// `exit` may be NULL. Any thread, any number of times; blocks.
//
// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE; if the sandbox could not be created, that
// error.
int sbx_wait(struct sbx_sandbox *sandbox, int64_t timeout_ms, struct sbx_exit *exit, struct sbx_error *error);

// Ends the sandbox, with code 137 and SBX_EXIT_TERMINATED. One that is still being created fails, with SBX_ECLOSED and
// SBX_EVENT_FAILED. An exit snapshot (sbx_config_set_exit_snapshot) is taken before it ends; a second call gives that up.
//
// Any thread, any time, any number of times; never blocks. Wait for the end with sbx_wait, SBX_EVENT_EXITED or
// SBX_EVENT_FAILED. A sandbox that has ended stays as it ended.
//
// Returns 0.
int sbx_terminate(struct sbx_sandbox *sandbox,
                  struct sbx_error *error);

// Shuts the sandbox down gracefully: sends its program a signal (0 is the image's StopSignal, or else SIGTERM), accepts no further
// connection, and ends the sandbox when the program and the last connection have ended. What is left after
// `grace_ms` milliseconds is killed. A sandbox without a command ends when every program executed in it has ended;
// all of them get the signal.
//
// The sandbox ends as its program did (SBX_EXIT_EXITED or SBX_EXIT_SIGNALLED); or with SBX_EXIT_TERMINATED and 137
// if the program had to be killed, or if there is none. One that is still being created fails, with SBX_ECLOSED and
// SBX_EVENT_FAILED. Calling it again sends the signal again and may shorten the time. Any thread, any time; never
// blocks. Wait for the end with sbx_wait, SBX_EVENT_EXITED or SBX_EVENT_FAILED. A sandbox that has ended stays as it ended.
//
// Returns 0; SBX_EINVALID (the signal is not from 0 to 64, or the time is negative).
int sbx_stop(struct sbx_sandbox *sandbox,
             int signal,
             int64_t grace_ms,
             struct sbx_error *error);

// Connects to a port inside, without any port on the host. The port need not be listed in the config.
//
// The descriptor is an AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Any
// thread; blocks until it is connected or refused, a few seconds at most. Hosts with an event loop use
// sbx_connect_begin.
//
// Returns the descriptor; SBX_EREFUSED, SBX_EINVALID, SBX_ESTATE, SBX_EUNSUPPORTED, SBX_ETIMEDOUT, SBX_ECLOSED,
// SBX_ELIMIT, SBX_ESYSTEM.
int sbx_connect(struct sbx_sandbox *sandbox,
                uint32_t port,
                struct sbx_error *error);

// Begins sbx_connect: sbx_operation_open_fd gives the descriptor, once.
//
// Cancelling it closes the connection that may have been made. sbx_operation says what holds for everything that is
// begun.
//
// Returns 0; SBX_EINVALID, SBX_ESTATE, SBX_ECLOSED, SBX_ELIMIT, SBX_ESYSTEM.
int sbx_connect_begin(struct sbx_sandbox *sandbox,
                      uint32_t port,
                      struct sbx_queue *queue,
                      uint64_t cookie,
                      struct sbx_operation **operation,
                      struct sbx_error *error);

// Sends a signal to the sandbox's program, not to its children.
//
// Any thread, never blocks.
//
// Returns 0; SBX_EINVALID (not from 1 to 64), SBX_ESTATE (it isn't running, or there is no program), SBX_ECLOSED.
int sbx_signal(struct sbx_sandbox *sandbox,
               int signal,
               struct sbx_error *error);

// Frees a sandbox and ends it if it still runs, without an exit snapshot. Of several handles to the same sandbox (sbx_sandbox_find) the last
// one that is freed ends it.
//
// Calls that wait on it return SBX_ECLOSED. Descriptors that were opened stay the caller's; tunnel maps and
// captures live on. Any thread, never blocks.
void sbx_sandbox_free(struct sbx_sandbox *sandbox);

// The state of the sandbox: SBX_STATE_.... It only ever moves forward. Any thread, never blocks.
//
// Returns that state.
int sbx_sandbox_state(const struct sbx_sandbox *sandbox);

// The sandbox's id: "sb-" and 16 hexadecimal digits.
//
// Any thread, never blocks. NULL for a bad handle.
const char *sbx_sandbox_id(const struct sbx_sandbox *sandbox);

// The sandbox's name.
//
// Any thread, never blocks. NULL if it has none, or for a bad handle.
const char *sbx_sandbox_name(const struct sbx_sandbox *sandbox);

// The value of one of the sandbox's tags: sbx_config_set_tag.
//
// Any thread, never blocks. NULL if there is no such tag, or for a bad handle or name.
const char *sbx_sandbox_tag(const struct sbx_sandbox *sandbox, const char *name);

// Finds the sandbox of that name in a runtime (NULL: the default one), if it has not ended.
//
// The result is another handle to the same sandbox, to be freed with sbx_sandbox_free; the sandbox ends when its
// last handle is freed. Any thread, never blocks.
//
// Returns 0 and sets *sandbox; SBX_ENOTFOUND, SBX_EINVALID, SBX_ELIMIT. With NULL also the errors of
// sbx_runtime_new, except SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_sandbox_find(struct sbx_runtime *runtime,
                     const char *name,
                     struct sbx_sandbox **sandbox,
                     struct sbx_error *error);

// Reports why the sandbox could not be created, after sbx_create_begin.
//
// Any thread, never blocks.
//
// Returns 0 if it was created or is still being created; otherwise the code, with *error filled as by sbx_create.
int sbx_sandbox_failure(const struct sbx_sandbox *sandbox,
                        struct sbx_error *error);

// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR.
//
// Once each. Standard input is an AF_UNIX stream, the outputs are pipes; the program has a pipe in each case.
// Write with send and MSG_NOSIGNAL: writing to a program that has ended would otherwise raise SIGPIPE in your
// process. The descriptor is non-blocking and close-on-exec; the caller owns and closes it. (For stdio or a
// blocking read(2), clear O_NONBLOCK with fcntl(2): fgets takes EAGAIN for the end of the file.) Any thread, never
// blocks.
//
// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already, or still
// starting).
int sbx_sandbox_open_fd(struct sbx_sandbox *sandbox,
                        int32_t stream,
                        struct sbx_error *error);

// Gets what has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_config_capture_stream.
//
// Free it with sbx_capture_free. Any thread, any number of times, also after the end; never blocks.
//
// Returns 0 and sets *capture; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT.
int sbx_sandbox_capture(const struct sbx_sandbox *sandbox,
                        int32_t stream,
                        struct sbx_capture **capture,
                        struct sbx_error *error);

// Replaces the sandbox's policy and waits until the new one is in force.
//
// When it returns, connections and UDP flows that the new policy denies have been reset on both sides; those that
// both policies allow were not disturbed, and at no moment did anything get through that neither allows. What becomes
// denied is reported as SBX_EVENT_DENIED. After a failure the old policy stays in force. A blocked policy closes egress
// and leaves the tunnels; a sandbox that was created blocked has no network, and can't be given one. Concurrent changes
// are made one after the other.
//
// `generation` may be NULL; the first policy has 0 and each change the next number. The policy is copied. Any thread;
// blocks for some milliseconds, with 100,000 entries for a second. Hosts with an event loop use sbx_set_policy_begin.
//
// Returns 0 and sets *generation; SBX_EINVALID (a bad entry, which is named), SBX_EUNSUPPORTED (it was created
// blocked), SBX_ESTATE (it has ended), SBX_ELIMIT, SBX_ESYSTEM, SBX_ECLOSED.
int sbx_set_policy(struct sbx_sandbox *sandbox,
                   const struct sbx_policy *policy,
                   uint64_t *generation,
                   struct sbx_error *error);

// Begins sbx_set_policy: sbx_operation_policy gives the generation.
//
// The event of its end is SBX_EVENT_POLICY_APPLIED. The policy is copied. A change that was begun is made whole, so
// sbx_operation_cancel and sbx_operation_free don't stop it: its end is still reported. sbx_operation says what holds for
// everything that is begun.
//
// Returns 0; SBX_EINVALID (a bad entry, which is named), SBX_ESTATE (the sandbox has ended), SBX_ECLOSED, SBX_ELIMIT.
int sbx_set_policy_begin(struct sbx_sandbox *sandbox,
                         const struct sbx_policy *policy,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Reads the policy in force: a copy of it, and its generation.
//
// The rules of the sandbox's gateway are read back from the kernel and compared with the policy; a difference is
// SBX_EINTERNAL. Of a sandbox that was created blocked, which has no network and so no rules, it is that policy, of
// generation 0. `copy` or `generation` may be NULL. Free the copy with sbx_policy_free. Any thread; blocks for a
// moment, and until earlier changes are made. Hosts with an event loop use sbx_sandbox_policy_begin.
//
// Returns 0 and sets *copy and *generation; SBX_ESTATE (it has ended), SBX_EINTERNAL, SBX_ELIMIT, SBX_ESYSTEM,
// SBX_ECLOSED.
int sbx_sandbox_policy(struct sbx_sandbox *sandbox,
                       struct sbx_policy **copy,
                       uint64_t *generation,
                       struct sbx_error *error);

// Begins sbx_sandbox_policy: sbx_operation_policy. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_ESTATE (the sandbox has ended), SBX_ECLOSED, SBX_ELIMIT.
int sbx_sandbox_policy_begin(struct sbx_sandbox *sandbox,
                             struct sbx_queue *queue,
                             uint64_t cookie,
                             struct sbx_operation **operation,
                             struct sbx_error *error);

// What the sandbox uses and has done; of an ended one, what it had used in all.
//
// The kernel and the sandbox are asked anew each time. What isn't answered within a second is left out of `known`. Any
// thread, any number of times; blocks, usually for a fraction of a millisecond and for a second at most. Hosts with an
// event loop use sbx_sandbox_stats_begin.
//
// Returns 0 and fills *stats; SBX_EINVALID, SBX_ESIZE.
int sbx_sandbox_stats(const struct sbx_sandbox *sandbox,
                      struct sbx_stats *stats,
                      struct sbx_error *error);

// Begins sbx_sandbox_stats: sbx_operation_stats. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_ECLOSED, SBX_ELIMIT.
int sbx_sandbox_stats_begin(struct sbx_sandbox *sandbox,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Keeps `count` sandboxes warm for configs like `config`: started, with nothing of anybody's in them, so that sbx_create
// has only to apply its own settings and to start its program. 0 ends them.
//
// sbx_create and sbx_create_begin take one by themselves if these are the same in both configs: root file system or image,
// mounts, limits, MTU, host name, the number of host services, and whether there is a network at all. Everything else is
// the created sandbox's own (command, environment, directory, user, streams, policy, ports, certificate, name servers,
// name, tags, times, queue); of the config given here it is ignored. Each is used once. A sandbox that fits no config that
// was given, or finds none ready, is created as without a pool.
//
// They are started in the background, one at a time, while no sandbox is being created. Each costs the memory, the
// processes and the descriptors of a sandbox. They are in no list of sandboxes and send no events. One that has waited for
// an hour is replaced; a config that no creation matches for ten minutes keeps one. Those for which something on the host
// has changed (runsc, the root file system, a mount's source) are not used. A creation that
// lacks descriptors, memory or processes before its keeper has started ends them, and goes on with what they had; one that
// lacks something later fails. They end with the runtime, and with the process, however that ends.
//
// A config with volumes is refused, and sandboxes that have volumes are created as without a pool. The config stays the
// caller's. At most 16 configs, and 256 sandboxes for all of them. Any thread, never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns,
// except SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_runtime_keep_warm(struct sbx_runtime *runtime,
                          const struct sbx_config *config,
                          uint32_t count,
                          struct sbx_error *error);

// Keeps `count` spares, 0 to 16; none by default. A spare is a sandbox that was started as far as gVisor's own program,
// which waits there before it looks at what it is to run. A creation that takes one skips that part of a start. A
// spare costs about 3 MB, where a warm sandbox costs what any does (sbx_runtime_keep_warm).
//
// They are for sandboxes like the last two that were created one after the other, if those were alike: the same root file
// system or image, mounts, limits, MTU, host name, number of host services, and both with a network or both without.
// sbx_create and sbx_create_begin take one by themselves; each is used once, by a sandbox of this runtime, and nothing of
// another was ever in it. Sandboxes that take a warm one, and those with volumes or an exit snapshot, don't count and take
// none.
//
// Spares are made in the background, one at a time, while no sandbox is being created: the first after the second creation.
// They end 30 seconds after the last creation that could have taken one. Those for which something on the host has changed
// are not used, and what ends warm sandboxes ends them, before those. Each holds the descriptors of a sandbox.
// sbx_runtime_warm_stats doesn't count them. A creation fails if the spare that it takes dies in that very moment. Any
// thread, never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns, except
// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_runtime_set_spares(struct sbx_runtime *runtime,
                           uint32_t count,
                           struct sbx_error *error);

// How many spares a runtime keeps.
//
// Any thread, never blocks.
//
// Returns the number; with a NULL runtime also what sbx_runtime_new returns, except SBX_ERUNSC_MISSING and
// SBX_ERUNSC_UNUSABLE.
int sbx_runtime_spares(const struct sbx_runtime *runtime, struct sbx_error *error);

// What the warm sandboxes of a runtime are and have done, for configs like `config`, or for all if that is NULL. What
// happened before sbx_runtime_keep_warm was called for a config, or after it was set to 0, isn't counted.
//
// Any thread, never blocks.
//
// Returns 0 and fills *stats; SBX_EINVALID, SBX_ESIZE; with a NULL runtime also what sbx_runtime_new returns, except
// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_runtime_warm_stats(struct sbx_runtime *runtime,
                           const struct sbx_config *config,
                           struct sbx_warm_stats *stats,
                           struct sbx_error *error);

// Has at most `count` sandboxes of the runtime start at once, 1 to 256; 0 for the default, which is twice as many as there
// are processors, and 4 at least. More at once are each slower, and no faster together.
//
// sbx_create and sbx_create_begin beyond that wait for their turn, in the order of the calls. Those that wait hold no
// descriptor, process or memory of a sandbox; sbx_terminate ends them at once. The 60 seconds in which a sandbox has to
// start begin with its turn, and its lifetime (sbx_config_set_timeout_ms) when it has started. A sandbox that takes a warm
// one doesn't wait (sbx_runtime_keep_warm), and warm ones are made only while no sandbox is being created.
//
// Can be changed at any time, and holds for sandboxes whose turn has not come. Any thread, never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns, except
// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
int sbx_runtime_set_max_starts(struct sbx_runtime *runtime,
                               uint32_t count,
                               struct sbx_error *error);

// How many sandboxes of the runtime start at once at most.
//
// Any thread, never blocks.
//
// Returns the number; with a NULL runtime also what sbx_runtime_new returns, except SBX_ERUNSC_MISSING and
// SBX_ERUNSC_UNUSABLE.
int sbx_runtime_max_starts(const struct sbx_runtime *runtime, struct sbx_error *error);

// Begins to store what a sandbox has in its root file system as a new image: sbx_operation_image gives it, and
// sbx_operation_totals what is in it and how many mounts were left out.
//
// `tag` is a name for the image, or NULL. The sandbox must have been started from an image (sbx_config_set_image); the new
// one has the same settings. It is one image, however many snapshots it came from, and needs none of them.
//
// The programs are paused while gVisor writes what they have changed: about 30 ms, and 2 seconds for a gigabyte; 50 seconds
// at most. Connections and tunnels stay open. The programs go on whatever happens, while the changes are merged with the
// image below. Files are as they are at one moment; what a program holds in its own memory is not in them.
//
// Not in a snapshot: /tmp, /dev, /dev/shm, mounted directories and images, sockets, extended attributes, and files that
// were deleted and are still open. Times of modification are rounded to seconds. gVisor reads each changed file whole, holes
// too, so a file may have a quarter of the free memory (of the limit of sbx_config_set_memory_bytes, else of the
// host), and 16 GiB at most. What that takes counts as the sandbox's memory until gVisor gives it back, minutes later.
//
// The event of its end is SBX_EVENT_OPERATION_DONE with the image's bytes in value[0] and the microseconds in which the
// sandbox was paused in value[1]; before it come SBX_EVENT_PROGRESS. What is in the image is what the sandbox wrote: trust
// it as much as the sandbox. The operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that
// is begun.
//
// Returns 0; SBX_EUNSUPPORTED (it was not started from an image: import its directory as one), SBX_EINVALID (the tag),
// SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own errors: SBX_ELIMIT (a file, or all of them, are
// too large), SBX_ESTATE (another snapshot of it is running, or a cancelled one has not ended yet; or the sandbox
// has ended), SBX_ETIMEDOUT, SBX_EIMAGE, SBX_ESYSTEM (a full disk), SBX_EENGINE (it can't be resumed, and ends).
int sbx_sandbox_snapshot_begin(struct sbx_sandbox *sandbox,
                               const char *tag,
                               struct sbx_queue *queue,
                               uint64_t cookie,
                               struct sbx_operation **operation,
                               struct sbx_error *error);

// The image of a sandbox's exit snapshot (sbx_config_set_exit_snapshot), once it has ended; to be freed with
// sbx_image_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *image; SBX_ENOTFOUND (it was created without an exit snapshot), SBX_ESTATE (it has not ended, or there
// is none: the text says why), or what the snapshot has failed with.
int sbx_sandbox_exit_image(const struct sbx_sandbox *sandbox,
                           struct sbx_image **image,
                           struct sbx_error *error);

// Begins to store a directory of a sandbox as a new image: sbx_operation_image gives it, and sbx_operation_totals what is in
// it and how much was left out.
//
// `path` is absolute, and the directory becomes the image's root: to mount it (sbx_config_add_image_mount), to copy it into
// a sandbox (sbx_sandbox_copy_image_begin), or to start from it if it is a whole root file system. Any directory will do,
// on any root, also in /tmp and in what is mounted. `tag` is a name for the image, or NULL.
//
// Owners, modes, and hard and symbolic links are as inside; times are in whole seconds. Left out and counted are sockets,
// devices, and what is mounted in the directory; extended attributes are left out. The files, holes included, may have 16
// GiB together, and it may take 15 minutes. Programs go on meanwhile, and what they change is handled as tar does: what is
// removed before it is read is left out, a file has the size that it has when it is opened, and what it lacks of that later
// reads as zeroes. For files as they are at one moment take sbx_sandbox_snapshot_begin.
//
// The event of its end is SBX_EVENT_OPERATION_DONE with the image's bytes in value[0] and the number of what was left out
// in value[1]; before it come SBX_EVENT_PROGRESS. What is in the image is what the sandbox wrote: trust it as much as the
// sandbox. The operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_EINVALID (the path, the tag), SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own
// errors: SBX_ENOTFOUND, SBX_ELIMIT (too many bytes, entries or levels), SBX_ESTATE (the sandbox has ended), SBX_ETIMEDOUT,
// SBX_EIMAGE, SBX_ESYSTEM (a file can't be read, a full disk), SBX_EENGINE.
int sbx_sandbox_snapshot_directory_begin(struct sbx_sandbox *sandbox,
                                         const char *path,
                                         const char *tag,
                                         struct sbx_queue *queue,
                                         uint64_t cookie,
                                         struct sbx_operation **operation,
                                         struct sbx_error *error);

// Begins to copy an image's files into a directory of a sandbox: sbx_operation_totals gives what was copied.
//
// `path` is absolute and not "/". The directory and those above it are made if they are missing. What is there stays, but
// for files of the image's names, which are replaced; a directory on the one side and a file on the other is an error.
// Nothing is mounted: gVisor can't do that in a sandbox that runs. It is a copy, which takes the sandbox's memory, or counts against sbx_config_set_disk_bytes, as if its programs had written it; what is
// changed there changes nothing in the image. An image that is known at the start is better mounted
// (sbx_config_add_image_mount), which takes neither time nor memory.
//
// Owners, modes, and hard and symbolic links are as in the image, those of its root are the directory's; times are in whole
// seconds. Devices and sockets are left out and counted. It may take 15 minutes. If it fails or is cancelled, what was
// copied until then stays. The image's handle may be freed after.
//
// The event of its end is SBX_EVENT_OPERATION_DONE with the bytes that were copied; before it come SBX_EVENT_PROGRESS. The
// operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_EINVALID (the path), SBX_EHANDLE, SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own
// errors: SBX_ESYSTEM (with ENOSPC if the sandbox's disk limit is reached, with EROFS on a read-only mount), SBX_EEXISTS,
// SBX_ELIMIT, SBX_ESTATE (the sandbox has ended), SBX_ETIMEDOUT, SBX_EIMAGE, SBX_EENGINE.
int sbx_sandbox_copy_image_begin(struct sbx_sandbox *sandbox,
                                 const struct sbx_image *image,
                                 const char *path,
                                 struct sbx_queue *queue,
                                 uint64_t cookie,
                                 struct sbx_operation **operation,
                                 struct sbx_error *error);

// Makes a config without a command: the sandbox's environment, directory and user, no streams, no timeout.
//
// Free it with sbx_exec_config_free. Any thread, never blocks.
//
// Returns 0 and sets *config; SBX_EINVALID, SBX_ELIMIT (no handle is left).
int sbx_exec_config_new(struct sbx_exec_config **config, struct sbx_error *error);

// Checks a config: returns the first bad value, or the first rule between settings that is broken.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_check(const struct sbx_exec_config *config, struct sbx_error *error);

// Frees a config. Programs started with it are not affected.
void sbx_exec_config_free(struct sbx_exec_config *config);

// Sets the program and its arguments: `argc` texts. It must be set.
//
// Linux's limits hold: each text is shorter than 131072 bytes, and together with the environment, the sandbox's
// included, they have at most 2097152, with 9 more counted for each. The first is looked up in the PATH of the
// program's environment unless it contains a slash.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_command(struct sbx_exec_config *config,
                                const char *const *argv,
                                size_t argc);

// Sets an environment variable, over the sandbox's of the same name: sbx_config_set_env.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_env(struct sbx_exec_config *config, const char *name, const char *value);

// Sets a secret environment variable: sbx_config_set_secret.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_secret(struct sbx_exec_config *config, const char *name, const char *value);

// Sets the directory inside that the program starts in, an absolute path. If it doesn't exist, it is made as for
// the sandbox's own program.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_workdir(struct sbx_exec_config *config,
                                const char *path);

// Sets the user that the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_user(struct sbx_exec_config *config, const char *user);

// Sets what SBX_STDIN, SBX_STDOUT or SBX_STDERR is connected to: SBX_STREAM_NULL (the default),
// SBX_STREAM_DESCRIPTOR or, for SBX_STDERR, SBX_STREAM_MERGED. Each program has streams of its own: one whose
// reader stops reading waits, and no other does.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_stream(struct sbx_exec_config *config, int32_t stream, int32_t mode);

// Captures SBX_STDOUT or SBX_STDERR: its first `head_bytes` and its last `tail_bytes` bytes are kept for
// sbx_process_capture. Each is at most 16 MiB, not both 0; 65536 each is a good choice. The program never waits
// for it.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_capture_stream(struct sbx_exec_config *config,
                                   int32_t stream,
                                   size_t head_bytes,
                                   size_t tail_bytes);

// Sets how long the program may run, in milliseconds, more than 0 (default: as long as the sandbox). Then it is
// killed, with its session and all its descendants: code 124 and SBX_EXIT_TIMED_OUT. A daemon that has begun a
// session of its own and whose parents have ended lives on. The exit is reported when the program no longer runs.
// If the sandbox's init hasn't confirmed that within twenty seconds, the whole sandbox ends, as
// SBX_EXIT_ENGINE_LOST.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_timeout_ms(struct sbx_exec_config *config,
                                   int64_t timeout_ms);

// Gives the program a terminal of that size, each number from 1 to 65535, in place of all three streams, which
// must not be set then: sbx_process_open_fd with SBX_TERMINAL. TERM is "xterm" unless it is set.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_pty(struct sbx_exec_config *config,
                            uint32_t rows,
                            uint32_t columns);

// Sets where the program's events, SBX_EVENT_PROCESS_..., go, and the cookie that they carry, a number of the
// host's own. It may be the sandbox's queue. Without a queue the program has no events.
//
// Returns 0 or SBX_EINVALID.
int sbx_exec_config_set_queue(struct sbx_exec_config *config, struct sbx_queue *queue, uint64_t cookie);

// Executes a program in a running sandbox and waits until it was started, which takes some milliseconds.
//
// The config stays the caller's. The program leads a session and a process group of its own. Free the process with
// sbx_process_free, which doesn't end the program. Any thread; blocks (bounded). Hosts with an event loop use
// sbx_exec_begin.
//
// Returns 0 and sets *process; SBX_EEXEC (not found, not executable, no such directory or user in the sandbox),
// SBX_EINVALID, SBX_ESTATE (the sandbox is still starting, is being stopped, or has ended), SBX_ELIMIT,
// SBX_EENGINE, SBX_ECLOSED, SBX_ESYSTEM.
int sbx_exec(struct sbx_sandbox *sandbox,
             const struct sbx_exec_config *config,
             struct sbx_process **process,
             struct sbx_error *error);

// Begins to execute a program and returns at once.
//
// SBX_EVENT_PROCESS_STARTED on the config's queue reports that it was started. If it can't be started,
// SBX_EVENT_PROCESS_EXITED reports the error, and so does sbx_process_failure. The handle is valid and its streams
// can be opened from now on, whatever happens. Any thread, never blocks.
//
// Returns 0 and sets *process; the errors of sbx_exec that are known at once.
int sbx_exec_begin(struct sbx_sandbox *sandbox,
                   const struct sbx_exec_config *config,
                   struct sbx_process **process,
                   struct sbx_error *error);

// Waits until the program has ended. A capture contains all that it wrote by then; descriptors of its streams can
// be read to their end at any later time.
//
// `exit` may be NULL. A program that still runs when the sandbox ends gets the sandbox's exit reason; if the
// sandbox's own program ended by itself, it is 137 and SBX_EXIT_TERMINATED. Any thread, any number of times;
// blocks.
//
// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE; if the program could not be started, that
// error.
int sbx_process_wait(struct sbx_process *process,
                     int64_t timeout_ms,
                     struct sbx_exit *exit,
                     struct sbx_error *error);

// Reports why the program could not be started, after sbx_exec_begin.
//
// Any thread, never blocks.
//
// Returns 0 if it was started or is still being started; otherwise the code, with *error filled as by sbx_exec.
int sbx_process_failure(const struct sbx_process *process,
                        struct sbx_error *error);

// Sends a signal to the program's process group: to the program and what it has started, except what has left the
// group (as the jobs of an interactive shell do).
//
// A program that is still being started gets it right after. For one that has ended it does nothing and returns 0.
// Any thread, never blocks.
//
// Returns 0; SBX_EINVALID (not from 1 to 64).
int sbx_process_signal(struct sbx_process *process,
                       int signal,
                       struct sbx_error *error);

// Changes the size of the program's terminal, each number from 1 to 65535. The programs in its foreground get
// SIGWINCH. The change may overtake what was typed before it. Any thread, never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ENOTFOUND (it has no terminal).
int sbx_process_resize(struct sbx_process *process, uint32_t rows, uint32_t columns, struct sbx_error *error);

// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR, or of
// SBX_TERMINAL.
//
// Once each, also before the program was started. Standard input is an AF_UNIX stream, the outputs are pipes; the
// program has a pipe in each case. Write with send and MSG_NOSIGNAL: writing to a program that has ended would
// otherwise raise SIGPIPE in your process. The terminal is an AF_UNIX stream: what is written is typed, what is
// read is shown, and closing it hangs up, so that the program gets SIGHUP. The terminal reads end-of-file when the
// program has ended, an output when no process inside holds it any more. Descriptors are non-blocking and
// close-on-exec; the caller owns and closes them. Any thread, never blocks.
//
// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already).
int sbx_process_open_fd(struct sbx_process *process,
                        int32_t stream,
                        struct sbx_error *error);

// Gets what has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_exec_config_capture_stream.
//
// Free it with sbx_capture_free. Any thread, any number of times, also after the end; never blocks.
//
// Returns 0 and sets *capture; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT.
int sbx_process_capture(const struct sbx_process *process,
                        int32_t stream,
                        struct sbx_capture **capture,
                        struct sbx_error *error);

// Frees a process. That doesn't end the program, but those of its streams that were not opened are closed (a
// terminal hangs up).
//
// Calls that wait on it return SBX_ECLOSED. Descriptors that were opened stay the caller's; captures live on. Any
// thread, never blocks.
void sbx_process_free(struct sbx_process *process);

// Reads what a capture kept.
//
// Returns 0 and fills *output; SBX_EINVALID, SBX_ESIZE.
int sbx_capture_output(const struct sbx_capture *capture, struct sbx_output *output);

// Frees a capture and its bytes.
void sbx_capture_free(struct sbx_capture *capture);

// Reads a file whole: sbx_operation_bytes.
//
// Up to 16 MiB, or options.limit; of a longer one nothing is given: sbx_file_download_begin has no limit. Only regular
// files are read: a FIFO or device is SBX_EUNSUPPORTED, at once.
//
// For all functions on files: the work is done inside the sandbox with the rights of the user in the options, root by
// default. No tool in the sandbox is needed, and links in it lead to nothing of the host's. Paths are absolute, in the
// sandbox, and bytes without NUL: they need not be UTF-8. Errors of the sandbox's file systems are SBX_ENOTFOUND,
// SBX_EEXISTS or SBX_ESYSTEM, with its number in os_error: EACCES, ENOSPC, EISDIR .... Other ends are SBX_EINVALID,
// SBX_EUNSUPPORTED, SBX_ELIMIT, SBX_ETIMEDOUT (a limit of the options), SBX_ECLOSED, SBX_ESTATE and SBX_EENGINE.
// Up to 256 operations go on at once in a sandbox. sbx_operation says what holds for everything that is begun.
//
// Options: offset, limit, user, and the two times, which all operations but a watch have; NULL for none.
//
// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
int sbx_file_read_begin(struct sbx_sandbox *sandbox,
                        const char *path,
                        const struct sbx_file_options *options,
                        struct sbx_queue *queue,
                        uint64_t cookie,
                        struct sbx_operation **operation,
                        struct sbx_error *error);

// Writes a file whole, in place of what is there.
//
// `bytes` are copied; NULL is allowed if there are none. Up to 16 MiB, or options.limit: sbx_file_upload_begin has no
// limit. A file that fails in the middle (ENOSPC) is left as far as it was written.
//
// Options: mode, limit, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user. The rest is as for
// sbx_file_read_begin.
int sbx_file_write_begin(struct sbx_sandbox *sandbox,
                         const char *path,
                         const uint8_t *bytes,
                         size_t length,
                         const struct sbx_file_options *options,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Lists a directory: sbx_operation_count and sbx_operation_entry, in no order.
//
// Up to 100,000 entries, or options.limit; of a larger directory nothing is given. A symbolic link is described itself,
// not what it leads to.
//
// Options: limit, user. The rest is as for sbx_file_read_begin.
int sbx_file_list_begin(struct sbx_sandbox *sandbox,
                        const char *path,
                        const struct sbx_file_options *options,
                        struct sbx_queue *queue,
                        uint64_t cookie,
                        struct sbx_operation **operation,
                        struct sbx_error *error);

// Describes a file: sbx_operation_entry with index 0.
//
// A symbolic link is followed, unless SBX_FILE_NO_FOLLOW is given.
//
// Options: SBX_FILE_NO_FOLLOW, user. The rest is as for sbx_file_read_begin.
int sbx_file_stat_begin(struct sbx_sandbox *sandbox,
                        const char *path,
                        const struct sbx_file_options *options,
                        struct sbx_queue *queue,
                        uint64_t cookie,
                        struct sbx_operation **operation,
                        struct sbx_error *error);

// Makes a directory.
//
// Options: mode, SBX_FILE_PARENTS, user. The rest is as for sbx_file_read_begin.
int sbx_file_make_directory_begin(struct sbx_sandbox *sandbox,
                                  const char *path,
                                  const struct sbx_file_options *options,
                                  struct sbx_queue *queue,
                                  uint64_t cookie,
                                  struct sbx_operation **operation,
                                  struct sbx_error *error);

// Removes a file, a symbolic link or an empty directory; with SBX_FILE_RECURSIVE everything below, too.
//
// Links below are removed, not followed; a tree deeper than 1,000 directories is SBX_ELIMIT. What can't be removed
// ends the operation, and what was removed before stays removed.
//
// Options: SBX_FILE_RECURSIVE, SBX_FILE_MISSING_OK, user. The rest is as for sbx_file_read_begin.
int sbx_file_remove_begin(struct sbx_sandbox *sandbox,
                          const char *path,
                          const struct sbx_file_options *options,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Renames a file or directory, on the same file system and over what is there.
//
// Options: SBX_FILE_EXCLUSIVE, user. The rest is as for sbx_file_read_begin.
int sbx_file_rename_begin(struct sbx_sandbox *sandbox,
                          const char *from,
                          const char *to,
                          const struct sbx_file_options *options,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Reads a file of any size through a stream: sbx_operation_open_fd.
//
// options.limit is held inside the sandbox here, where hostile code may get around it: count what you read.
//
// Options: offset, limit, user. The rest is as for sbx_file_read_begin.
int sbx_file_download_begin(struct sbx_sandbox *sandbox,
                            const char *path,
                            const struct sbx_file_options *options,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Writes a file of any size through a stream, in place of what is there: sbx_operation_open_fd.
//
// What was sent before a failure (a full disk) stays there.
//
// Options: mode, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user. The rest is as for sbx_file_read_begin.
int sbx_file_upload_begin(struct sbx_sandbox *sandbox,
                          const char *path,
                          const struct sbx_file_options *options,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Packs a file or a tree into a tar archive (ustar with pax headers) on a stream: sbx_operation_open_fd.
//
// A directory's entries are named relative to it, a file by the last part of its path. Symbolic links are packed as
// such; sockets and devices are left out and counted: sbx_operation_totals. What the archive says comes from the
// sandbox: unpack it only with something that refuses absolute paths, "..", devices, and paths that lead through
// links. options.limit is of the files' bytes and held inside the sandbox, where hostile code may get around it: count
// what you read.
//
// Options: limit, user. The rest is as for sbx_file_read_begin.
int sbx_file_copy_out_begin(struct sbx_sandbox *sandbox,
                            const char *path,
                            const struct sbx_file_options *options,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Unpacks a tar archive (ustar, pax, GNU) from a stream into a directory: sbx_operation_open_fd.
//
// An entry with an absolute path, with "..", or whose path leads through a symbolic link is SBX_EINVALID; devices and
// sparse files are SBX_EUNSUPPORTED. What is in the way of a file is replaced. What came before such an entry stays.
//
// Options: limit (of its files' bytes), SBX_FILE_PARENTS, SBX_FILE_KEEP_OWNER, user. The rest is as for
// sbx_file_read_begin.
int sbx_file_copy_in_begin(struct sbx_sandbox *sandbox,
                           const char *path,
                           const struct sbx_file_options *options,
                           struct sbx_queue *queue,
                           uint64_t cookie,
                           struct sbx_operation **operation,
                           struct sbx_error *error);

// Reports changes in a directory, with SBX_FILE_RECURSIVE also below it: sbx_operation_next_change.
//
// The first change is SBX_CHANGE_READY. What is done inside the sandbox is seen, and not what the host changes in a
// directory that it has mounted. The watch goes on until it is cancelled or freed, the directory is gone, or the sandbox
// ends. Up to 8,192 directories are watched, 1,000 deep; when there are more, SBX_CHANGE_OVERFLOW reports it once and the
// watch goes on with those that it has. SBX_EVENT_FILE_CHANGED, with the same cookie, says that there are changes to take.
//
// Options: SBX_FILE_RECURSIVE, user. The rest is as for sbx_file_read_begin.
int sbx_file_watch_begin(struct sbx_sandbox *sandbox,
                         const char *path,
                         const struct sbx_file_options *options,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Pulls an image from a registry into the store: sbx_operation_image.
//
// `reference` is as docker has it: "python:3.12", "registry.example:5000/team/app@sha256:...". Nothing but the manifest
// is downloaded if the store has the image already. Everything that comes is checked against its digest, and unpacked by
// a confined process. Registries are reached by HTTPS, with the system's authorities and proxies as the environment had
// them when the runtime was made; by HTTP only on a loopback address.
//
// For all functions on images: they work on the store of `runtime` (NULL: of the default one), which all of the user's
// programs share. Up to 64 operations of a runtime wait while two pulls, imports or snapshots go on, and up to 64 builds while two builds do. While one goes on,
// SBX_EVENT_PROGRESS comes to its queue; a pulled byte counts twice there, when it has come and when it is unpacked. Where
// an operation fails, is cancelled, or its process ends, nothing of it stays. Their errors are SBX_EIMAGE (what is wrong
// with the image, the registry or the store), SBX_ELIMIT, SBX_ENOTFOUND, SBX_ETIMEDOUT, SBX_EINVALID, SBX_EHOST,
// SBX_ESYSTEM (with ENOSPC if the disk is full) and SBX_ECLOSED. sbx_operation says what holds for everything that is
// begun.
//
// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
int sbx_image_pull_begin(struct sbx_runtime *runtime,
                         const char *reference,
                         const struct sbx_image_options *options,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Stores an image that is in files: sbx_operation_image.
//
// They are at `path`, or with a NULL path behind the descriptor `fd`, which stays the caller's; a pipe is read to its end.
// With a path `fd` is -1. What they are is found out, or said by options.format: an OCI layout (a directory, or a tar
// archive of it), an archive of `docker save`, a tar archive of a root file system, or a directory that is one. Archives
// may be compressed by gzip or zstd. The files of a directory keep their owners, but an ordinary user's own become root's.
// Names in an archive don't become the image's. The rest is as for sbx_image_pull_begin.
int sbx_image_import_begin(struct sbx_runtime *runtime,
                           const char *path,
                           int fd,
                           const struct sbx_image_options *options,
                           struct sbx_queue *queue,
                           uint64_t cookie,
                           struct sbx_operation **operation,
                           struct sbx_error *error);

// Finds an image in the store: sbx_operation_image.
//
// `name` is one of its names (a reference as sbx_image_pull_begin takes it), its id, or the beginning of its id, at
// least 12 digits. SBX_ENOTFOUND if there is none. The rest is as for sbx_image_pull_begin.
int sbx_image_find_begin(struct sbx_runtime *runtime,
                         const char *name,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Lists the store's images: sbx_operation_images. The rest is as for sbx_image_pull_begin.
int sbx_image_list_begin(struct sbx_runtime *runtime,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// Gives an image of the store one more name: `tag`, a reference without a digest. Another image that has that name loses
// it. `name` is as for sbx_image_find_begin, the rest as for sbx_image_pull_begin.
int sbx_image_tag_begin(struct sbx_runtime *runtime,
                        const char *name,
                        const char *tag,
                        struct sbx_queue *queue,
                        uint64_t cookie,
                        struct sbx_operation **operation,
                        struct sbx_error *error);

// Removes an image from the store: by one of its names, which is all that goes if it has others; by its id with all of
// its names.
//
// Sandboxes that run on it go on, and handles of it stay usable; its bytes are free when the last of them is gone. `name`
// is as for sbx_image_find_begin, the rest as for sbx_image_pull_begin.
int sbx_image_remove_begin(struct sbx_runtime *runtime,
                           const char *name,
                           struct sbx_queue *queue,
                           uint64_t cookie,
                           struct sbx_operation **operation,
                           struct sbx_error *error);

// Removes images until the store has at most `max_bytes`: 0 removes all. Those that builds have left without a name go
// first, then the others; of each kind those that were not used for longest.
//
// sbx_operation_totals has how many were removed (`entries`) and how many bytes they had; the event of the end has the
// bytes. The rest is as for sbx_image_remove_begin.
int sbx_image_prune_begin(struct sbx_runtime *runtime,
                          uint64_t max_bytes,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Reads what is known of an image, as it was when the handle was made.
//
// Any thread, never blocks.
//
// Returns 0 and fills *info; SBX_EINVALID, SBX_ESIZE.
int sbx_image_info(const struct sbx_image *image, struct sbx_image_summary *info);

// Frees an image's handle and its texts. The image stays in the store.
void sbx_image_free(struct sbx_image *image);

// How many images are in the list.
//
// Returns the count.
int sbx_image_list_count(const struct sbx_image_list *list);

// Reads one image of a list, from 0, the one that was used last first.
//
// Returns 0 and fills *info; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
int sbx_image_list_entry(const struct sbx_image_list *list, size_t index, struct sbx_image_summary *info);

// Frees a list and its texts.
void sbx_image_list_free(struct sbx_image_list *list);

// Makes a build. A Dockerfile has to be set (sbx_build_set_dockerfile).
//
// Free it with sbx_build_free. Any thread, never blocks.
//
// Returns 0 and sets *build; SBX_EINVALID, SBX_ELIMIT (no handle is left).
int sbx_build_new(struct sbx_build **build, struct sbx_error *error);

// Frees a build; NULL is allowed. Operations that were begun with it are not affected.
void sbx_build_free(struct sbx_build *build);

// Sets the text of the Dockerfile: `length` bytes of UTF-8, at most 1 MiB. It is the text, not a path.
//
// It has one stage, of FROM, RUN, COPY, ADD (of files), ENV, ARG, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, LABEL, SHELL and
// STOPSIGNAL, with docker's meaning. What else docker has is refused by name, or ignored with a warning in the output where
// it has no effect on the image. FROM names an image of the store, or one that is pulled as sbx_image_pull_begin does
// without options; `FROM scratch` begins with nothing. The instructions that the base has for builds on it (ONBUILD) are done
// first, with the build's arguments and contexts, as docker does them, but never with its secrets: a RUN of theirs with
// --mount is refused. They are not the new image's.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_dockerfile(struct sbx_build *build,
                             const uint8_t *text,
                             size_t length);

// Sets the directory that COPY and ADD take files from. Its .dockerignore holds, unless sbx_build_set_ignore was called. No
// link in it leads out of it.
//
// Copied files belong to root unless --chown says otherwise; modes and times are the files' own.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_context(struct sbx_build *build,
                          const char *path);

// Sets what of the context is left out, in the place of its .dockerignore, which is a file like any other then: `count`
// patterns as that file has them, but for its comments, at most 10,000 and 1 MiB together. The last one that is about a path, or about a directory
// above it, decides; with a ! before it the path is copied all the same. A count of 0 leaves out nothing; without this
// function the file holds.
//
// Returns 0; SBX_EINVALID (a text that is not a pattern; the error names it), SBX_ELIMIT.
int sbx_build_set_ignore(struct sbx_build *build,
                         const char *const *patterns,
                         size_t count);

// Adds a directory that `COPY --from=NAME` takes files from.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_add_context(struct sbx_build *build, const char *name, const char *path);

// Sets the value of an ARG of the Dockerfile; setting the same name again replaces it. Steps and images can keep it: for a
// secret there is sbx_build_add_secret.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_add_arg(struct sbx_build *build,
                      const char *name,
                      const char *value);

// Adds a secret: `length` bytes, at most 512 KiB, for the steps that ask for it by `RUN --mount=type=secret,id=ID`.
//
// Such a step finds them in a file at /run/secrets/ID, or at the target that it names: a link to a file in the sandbox's
// memory, which is taken away before the step's result is stored. They are in no image, in nothing that the store keeps,
// and in no text of the library's; a step isn't done again because a secret has changed. What a step's program does with
// them is its own affair. The library overwrites its copies when they are no longer needed.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_add_secret(struct sbx_build *build,
                         const char *id,
                         const uint8_t *value,
                         size_t length);

// Sets what the sandboxes of RUN steps are like: policy, limits, name servers, host services and the like. A copy is taken.
//
// Without it their policy is blocked: a step reaches nothing. A config's own policy is open unless it was set. What says
// which program runs on what is the Dockerfile's: a config with a command, an image, a root directory, environment,
// a working directory, a user, a host name, mounts, volumes, ports, a probe, an exit snapshot or a name is refused.
// Its timeout doesn't hold, the build's does.
//
// Returns 0, SBX_EINVALID or the config's own error.
int sbx_build_set_config(struct sbx_build *build,
                         const struct sbx_config *config);

// Does every step again, also those whose result is stored. The new results are stored in their place.
//
// Returns 0.
int sbx_build_set_no_cache(struct sbx_build *build);

// Does the steps again whose result was made more than `max_age_ms` ago, in whole seconds. By default results are used
// whatever their age.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_max_age_ms(struct sbx_build *build,
                             int64_t max_age_ms);

// Limits how long all of the build may take, from 1 ms to 24 hours (default one hour): then it is SBX_ETIMEDOUT.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_timeout_ms(struct sbx_build *build,
                             int64_t timeout_ms);

// Limits the bytes that the build's steps add, together (default 64 GiB): what each image that is made is longer than the one
// below it, and no step may change more than what is left. What is found in the cache doesn't count. More is SBX_ELIMIT.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_max_bytes(struct sbx_build *build,
                            uint64_t max_bytes);

// Sets the name that the image is stored under, a reference without a digest. Without it the image has none but its id, and
// sbx_image_prune_begin removes it before others.
//
// Returns 0 or SBX_EINVALID.
int sbx_build_set_tag(struct sbx_build *build,
                      const char *tag);

// Writes what is being done, and what the programs of RUN steps say, to a descriptor: a pipe, socket, terminal or file.
//
// A line begins each step: "[2/5] RUN make", or "[2/5] CACHED RUN make" where its result was stored. What a program says
// comes as it is. A reader that is slow is waited for, five seconds in all; then it loses output, which a line says. The
// descriptor is duplicated and stays the caller's.
//
// Returns 0 or SBX_ESYSTEM (not a usable descriptor).
int sbx_build_set_output_fd(struct sbx_build *build,
                            int fd);

// Builds an image and stores it: sbx_operation_image.
//
// Each RUN is a program in a sandbox on the image so far, which ends with it; what it has changed is in the next image. What
// was mounted is not, but /tmp is. COPY and ADD take their files from the build's contexts, read them here, and a confined
// process writes the image. The result of a step is stored, and a build with the same step on the same image takes it:
// for RUN the same program, arguments, environment, user and directory, for COPY files with the same names, modes and
// contents.
//
// SBX_EVENT_PROGRESS has the steps that are done in value[0], all of them in value[1], and the step in its detail. Where a
// step fails, the error has its number, its text, how its program ended, and the last lines that it said; the results of
// the steps before it stay stored. When it is cancelled, the sandbox ends, and nothing of that step stays.
//
// The operation's own errors are those of sbx_image_pull_begin for FROM, those of sbx_create and sbx_exec for RUN,
// SBX_EIMAGE (a program failed), SBX_ENOTFOUND (a file to be copied), SBX_ETIMEDOUT and SBX_ECLOSED. The rest is as for
// sbx_image_pull_begin, whose bounds of operations hold.
//
// Returns 0; SBX_EINVALID and SBX_EUNSUPPORTED (a setting, or the Dockerfile, with its line), SBX_ELIMIT, SBX_ECLOSED.
int sbx_image_build_begin(struct sbx_runtime *runtime,
                          const struct sbx_build *build,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Mounts a volume at `destination`, an absolute path as sbx_config_add_mount takes it: a named directory that outlives the
// sandbox, and that any number of sandboxes may have at once. What one writes, the others see.
//
// `name` has 1 to 64 of a-z 0-9 . _ - and begins with no dot. With a `sub_path` (NULL or "": the whole volume), a relative
// path without "..", only that directory of the volume is mounted: the sandbox never gets out of it, whatever others do in
// the volume meanwhile, and a symbolic link on the way is an error. `flags` are added up: SBX_VOLUME_READ_ONLY,
// SBX_VOLUME_CREATE (the volume is made if there is none of that name), SBX_VOLUME_CREATE_SUB_PATH (so are the directories
// of the sub-path). A sandbox has at most 16 volumes, and nothing is mounted inside one.
//
// Volumes are directories of the user's, in the runtime's volume_directory. Every file belongs to the host's user (chown
// fails inside, and everything is the sandbox's root's). Set-id bits have no effect, a device is gVisor's own of that number
// or can't be opened, and neither can be made. For an ordinary user nothing limits the bytes: sbx_config_set_disk_bytes doesn't count them. When fewer bytes are free
// there than the runtime's volume_min_free_bytes, new sandboxes with a writable volume are refused with SBX_ELIMIT; those
// that run go on. Sandboxes that share a volume trust each other with what is in it.
//
// The sandbox fails with SBX_ENOTFOUND if the volume or the sub-path isn't there, SBX_EINVALID (a link or a file on the
// way), SBX_ELIMIT, SBX_EHOST (the directory isn't safe: other users could write there, or it is on a network's file
// system).
//
// Returns 0 or SBX_EINVALID.
int sbx_config_add_volume(struct sbx_config *config,
                          const char *name,
                          const char *destination,
                          const char *sub_path,
                          uint32_t flags);

// Makes a volume: sbx_operation_volumes has it. One that exists is left as it is, or with SBX_VOLUME_EXCLUSIVE in `flags`
// SBX_EEXISTS.
//
// For all functions on volumes: they work on the volumes of `runtime` (NULL: of the default one), which all of the user's
// programs share, and wait in the same queues as operations on images. Their errors are SBX_ENOTFOUND, SBX_EINVALID (the
// name), SBX_EHOST (the directory of volumes isn't safe), SBX_ETIMEDOUT (another process keeps the store locked),
// SBX_ELIMIT, SBX_ESYSTEM and SBX_ECLOSED. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_EINVALID, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
int sbx_volume_create_begin(struct sbx_runtime *runtime,
                            const char *name,
                            uint32_t flags,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Looks a volume up: sbx_operation_volumes has it. SBX_ENOTFOUND if there is none of that name. The rest is as for
// sbx_volume_create_begin.
int sbx_volume_find_begin(struct sbx_runtime *runtime,
                          const char *name,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Lists the volumes by name: sbx_operation_volumes. The bytes that they take aren't counted, which would take as long as
// reading all of their directories. The rest is as for sbx_volume_create_begin.
int sbx_volume_list_begin(struct sbx_runtime *runtime,
                          struct sbx_queue *queue,
                          uint64_t cookie,
                          struct sbx_operation **operation,
                          struct sbx_error *error);

// Removes a volume with everything in it; no link is followed.
//
// SBX_ESTATE while a sandbox of any of the user's programs has it mounted: that lasts until the sandbox has ended, also if
// its host was killed. The name is free at once. A removal that is cancelled, or whose process is killed, leaves files
// that no volume has any more and the next removal takes. The rest is as for sbx_volume_create_begin.
int sbx_volume_remove_begin(struct sbx_runtime *runtime,
                            const char *name,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// How many volumes are in the list.
//
// Returns the count.
int sbx_volume_list_count(const struct sbx_volume_list *list);

// Reads one volume of a list, from 0.
//
// Returns 0 and fills *summary; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
int sbx_volume_list_entry(const struct sbx_volume_list *list,
                          size_t index,
                          struct sbx_volume_summary *summary);

// Frees a list and its texts.
void sbx_volume_list_free(struct sbx_volume_list *list);

// How many tunnels there are.
//
// Returns the count.
int sbx_tunnel_map_count(const struct sbx_tunnel_map *map);

// Reads one tunnel of the map, from 0, in the order of their container ports.
//
// Returns 0 and fills *tunnel; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
int sbx_tunnel_map_tunnel(const struct sbx_tunnel_map *map, size_t index, struct sbx_tunnel *tunnel);

// The https:// URL of the encrypted tunnel of a container port, as in sbx_tunnel.
//
// Returns NULL for a bad handle, a port without a tunnel, and an unencrypted tunnel.
const char *sbx_tunnel_map_url(const struct sbx_tunnel_map *map, uint32_t container_port);

// The certificate of the CA, in PEM, that an encrypted tunnel's certificate was made under, as in sbx_tunnel. It is
// this sandbox's alone: a client that trusts it doesn't take another sandbox on the same port for this one. Both are
// valid from half a year before the sandbox was created until half a year after.
//
// Returns NULL for a bad handle, a port without a tunnel, an unencrypted tunnel, and one with the host's own
// certificate.
const char *sbx_tunnel_map_ca_pem(const struct sbx_tunnel_map *map,
                                  uint32_t container_port);

// Frees a map and its texts.
void sbx_tunnel_map_free(struct sbx_tunnel_map *map);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SBX_H */
