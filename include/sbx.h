/*
 * libsbx: gVisor sandboxes inside your own process.
 *
 * This header is the reference manual. Rules that hold for all of it:
 *
 * - 0 or more is success, a negative number is one of SBX_E.... sbx_error is the caller's, may be NULL, and
 *   is written on failure only. Results are written on success only: on failure their places stay as they were.
 * - Structs begin with their size. Zero them, or use the SBX_..._INIT macros.
 * - A NULL, freed, wrong or foreign handle, NULL where a text is needed, and text that is not UTF-8 are
 *   errors, never crashes. Every ..._free accepts NULL. Texts passed in are copied; texts returned belong to
 *   their object and live as long as it. Paths in a sandbox and names of its files are bytes without NUL and
 *   need not be UTF-8.
 * - Timeouts are in milliseconds. Negative waits forever, 0 polls; SBX_ETIMEDOUT when one expires. A time in a
 *   struct is different, since structs begin as zero: 0 is its default, which it documents, and negative is no limit.
 * - Descriptors returned by ..._open_fd functions and sbx_connect are the caller's to close.
 * - Any thread may call, with any stack from 64 KiB. The library installs no signal handler, changes no
 *   thread's signal mask, and writes nothing to stdout or stderr. In a child of fork every call is
 *   SBX_EFORKED, or NULL where it returns a pointer, but for sbx_version and sbx_abi_version; a ..._free does
 *   nothing there. The library can't be unloaded: dlclose is safe and does nothing.
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
#define SBX_FILE_OPTIONS_INIT {static_cast<uint32_t>(sizeof(sbx_file_options)), 0, 0, 0, 0, 0, 0, NULL, 0}
#define SBX_FILE_ENTRY_INIT {static_cast<uint32_t>(sizeof(sbx_file_entry)), 0, 0, 0, 0, 0, 0, 0, NULL, NULL}
#define SBX_FILE_TOTALS_INIT {static_cast<uint32_t>(sizeof(sbx_file_totals)), 0, 0, 0, 0}
#define SBX_RUNTIME_CONFIG_INIT {static_cast<uint32_t>(sizeof(sbx_runtime_config)), 0, NULL, NULL}
#else
#define SBX_ERROR_INIT {(uint32_t)sizeof(sbx_error), 0, 0, 0, {0}}
#define SBX_EXIT_INIT {(uint32_t)sizeof(sbx_exit), 0, 0, 0, 0, 0}
#define SBX_VERDICT_INIT {(uint32_t)sizeof(sbx_verdict), 0, 0, 0, {0}}
#define SBX_EVENT_INIT {(uint32_t)sizeof(sbx_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}}
#define SBX_STATS_INIT {(uint32_t)sizeof(sbx_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define SBX_FILE_OPTIONS_INIT {(uint32_t)sizeof(sbx_file_options), 0, 0, 0, 0, 0, 0, NULL, 0}
#define SBX_FILE_ENTRY_INIT {(uint32_t)sizeof(sbx_file_entry), 0, 0, 0, 0, 0, 0, 0, NULL, NULL}
#define SBX_FILE_TOTALS_INIT {(uint32_t)sizeof(sbx_file_totals), 0, 0, 0, 0}
#define SBX_RUNTIME_CONFIG_INIT {(uint32_t)sizeof(sbx_runtime_config), 0, NULL, NULL}
#endif

// The version of this header: major << 16 | minor << 8 | patch.
#define SBX_ABI_VERSION 256

// An argument or a setting has a value that is not allowed; the message names it and the rule.
#define SBX_EINVALID -1001

// A handle is NULL, freed, of another kind, or of another copy of the library.
#define SBX_EHANDLE -1002

// A struct's `size` is impossible, or an unknown part of it is not zero.
#define SBX_ESIZE -1003

// The time given ran out. Nothing was changed; the call may be made again.
#define SBX_ETIMEDOUT -1004

// The object was freed, or its runtime was shut down, while the call waited.
#define SBX_ECLOSED -1005

// Not possible in the state the object is in (for example tunnels of an ended sandbox).
#define SBX_ESTATE -1006

// The name is already taken.
#define SBX_EEXISTS -1007

// There is no such thing.
#define SBX_ENOTFOUND -1008

// The combination or the operation is not supported.
#define SBX_EUNSUPPORTED -1009

// A limit of the library or of the process is reached (descriptors, queue, table).
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

// Its lifetime ran out; `code` is 124.
#define SBX_EXIT_TIMED_OUT 3

// It was idle for longer than it may be; `code` is 124.
#define SBX_EXIT_IDLE 4

// It was terminated by the host; `code` is 137.
#define SBX_EXIT_TERMINATED 5

// It needed more memory than it was given; `code` is 137.
#define SBX_EXIT_OUT_OF_MEMORY 6

// The keeper or gVisor died without being asked to, or the sandbox's init was stopped from inside and has not answered
// for half a minute; `code` is 137.
#define SBX_EXIT_ENGINE_LOST 7

// The sandbox's program was started. Never dropped.
#define SBX_EVENT_STARTED 1

// The sandbox could not be created; `code` is the error's number, `detail` its text. Never dropped.
#define SBX_EVENT_FAILED 2

// The server inside answers, for the first time. It is asked if the config has a probe, or once somebody asks for it:
// sbx_wait_ready, also with time-out 0. A sandbox with neither probe nor port has no such event.
#define SBX_EVENT_READY 3

// The sandbox has ended and nothing of it is left; `code` and `reason` as in sbx_exit. Never dropped.
#define SBX_EVENT_EXITED 4

// A program of sbx_exec_begin or sbx_exec has ended; `code` and `reason` as in sbx_exit. If it could not be started,
// `reason` is 0, `code` the error's number and `detail` its text. Never dropped.
#define SBX_EVENT_PROCESS_EXITED 5

// Something that the sandbox wanted to reach was denied: `address` (an address or a name), `port`, `protocol` (6 is
// TCP, 17 UDP), `reason` (SBX_REASON_...), `entry` (the policy's entry, or -1), `detail`. The first denial of a
// destination is told at once; how often it was denied after that is told once a second, in `count`. An event without
// `address` counts those beyond the 64 destinations that are told apart within a second.
#define SBX_EVENT_DENIED 6

// A change of the policy begun by sbx_set_policy_begin has ended; `cookie` is the one given there. `code` is 0 and
// `value[0]` the policy's generation, or `code` is an error's number and `detail` its text, and the old policy stays.
// Never dropped.
#define SBX_EVENT_POLICY_APPLIED 7

// A limit of the library was reached; `detail` says which.
#define SBX_EVENT_LIMIT 8

// A program of sbx_exec_begin or sbx_exec was started. Never dropped.
#define SBX_EVENT_PROCESS_STARTED 9

// An operation has ended: `cookie` is the one it was begun with. `code` is 0 and `value` the bytes done and the bytes in
// all, or `code` is the error's number and `detail` its text. Never dropped.
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

// Limits of memory and processor are held by the kernel (cgroups), or the sandbox is not created.
#define SBX_LIMITS_STRICT 0

// Where the kernel can't, the memory is looked at many times a second, and a sandbox that has too much is ended
// as out of memory. Best effort: a program that is quick can have more for a moment, what thousands of processes have
// of their own is known some seconds late, and the kernel's memory for sockets and pipes isn't seen.
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

// Watching has begun: what changes from now on is told. The path is empty.
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

// Everything that is needed is there.
#define SBX_FINDING_OK 1

// It works, but less well; the remedy says how to improve it.
#define SBX_FINDING_LIMITED 2

// Sandboxes can't be created before the remedy was applied.
#define SBX_FINDING_MISSING 3

// Standard input, where a stream is asked for.
#define SBX_STDIN 0

// Standard output.
#define SBX_STDOUT 1

// Standard error.
#define SBX_STDERR 2

// The terminal of a program that has one: sbx_process_open_fd.
#define SBX_TERMINAL 3

// The stream is empty, or thrown away. The default.
#define SBX_STREAM_NULL 0

// The host gets a descriptor for the stream: sbx_sandbox_open_fd, sbx_process_open_fd.
#define SBX_STREAM_DESCRIPTOR 1

// Standard error goes where standard output goes. For SBX_STDERR only.
#define SBX_STREAM_MERGED 2

// A policy by which any public address may be reached, save what is denied: sbx_policy_mode.
#define SBX_POLICY_OPEN 1

// A policy by which only what is allowed may be reached.
#define SBX_POLICY_ALLOWLIST 2

// A policy of no network at all.
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

// What a capture of an output stream had kept when it was asked. It doesn't change; any thread may read
// it. Its bytes live as long as it.
typedef struct sbx_captured sbx_captured;

// What a sandbox is asked to be.
//
// A setter returns what is wrong at once and keeps it: the first bad value is what sbx_config_check and
// sbx_create return with its text, so a program may set everything and look once. Everything passed is
// copied. One config makes any number of sandboxes. One thread at a time sets; no function blocks.
typedef struct sbx_config sbx_config;

// What a program in a running sandbox is asked to be. What isn't set is as for the sandbox's own program:
// environment, directory, user.
//
// As with sbx_config, a setter returns what is wrong at once and keeps it: the first bad value is what
// sbx_exec_config_check and sbx_exec return with its text. Everything passed is copied. One config starts any
// number of programs. One thread at a time sets; no function blocks.
typedef struct sbx_exec_config sbx_exec_config;

// Something that was begun and goes on by itself, and its result.
//
// All ..._begin functions that give one work alike. They never block, and may be called from any thread. `queue` and
// `cookie` say where the event of the end goes: SBX_EVENT_OPERATION_DONE, unless the function names another. With a NULL
// queue there is no event. They return 0 and set *operation, or what is wrong at once, and then no event comes; what
// goes wrong later is the operation's own error. Where a program may block, three lines are a call that waits:
//
//     sbx_operation *operation = NULL;
//     int code = sbx_file_remove_begin(sandbox, "/tmp/a", NULL, NULL, 0, &operation, &error);
//     if (code == 0) code = sbx_operation_wait(operation, -1, &error);
//
// Any thread may call any function of an operation at any time; only sbx_operation_free comes last. An operation doesn't
// keep its sandbox alive.
typedef struct sbx_operation sbx_operation;

// What a sandbox may reach. A policy names its mode, so that no empty list can mean "everything".
//
// The first bad entry is kept and returned when the policy is given to a config, by sbx_config_check and
// by sbx_create, so that a program may look once.
typedef struct sbx_policy sbx_policy;

// A program that was executed in a running sandbox.
//
// Any thread may call any of its functions at any time, several at once; only sbx_process_free comes last. It
// doesn't keep the sandbox alive: the program ends with the sandbox.
typedef struct sbx_process sbx_process;

// A queue of events. One takes the events of as many sandboxes as the host likes.
typedef struct sbx_queue sbx_queue;

// What the doctor found. It doesn't change; any thread may read it. Texts live as long as it.
typedef struct sbx_report sbx_report;

// A runtime: two threads, however many sandboxes, and others for moments: one that looks through the host's programs
// before the first sandbox, one in which sandboxes are planned, one for each large policy that is being loaded and for
// each check. What hangs on the host (a dead mount, say) keeps the thread that looked at it, and another takes its
// place; there are never more than 64 of those. As long as one hangs in the kernel, so do setuid(2) and its like, which
// glibc has every thread of a process take part in (nptl(7)).
//
// The two end some seconds after the last sandbox, and are started again with the next. Until then they keep a process
// whose main thread has left by pthread_exit(3), and since they block all signals, SIGTERM doesn't end one that has no
// other thread. sbx_runtime_free ends a runtime's own at once.
//
// Where a call takes one, NULL stands for the process's default runtime, which is made on first use and lives as
// long as the process. It looks for runsc with its first sandbox; until it has found one that works, it reads the
// environment anew at each use.
typedef struct sbx_runtime sbx_runtime;

// A sandbox.
//
// Any thread may call any of its functions at any time, several at once; only sbx_sandbox_free comes last.
typedef struct sbx_sandbox sbx_sandbox;

// The sandboxes of a runtime as they were at a moment. It doesn't change; any thread may read it. Texts
// live as long as it. It keeps no sandbox alive.
typedef struct sbx_sandbox_list sbx_sandbox_list;

// Where the ports of a sandbox are reached, keyed by container port. It doesn't change and outlives the
// sandbox; any thread may read it. Texts live as long as it.
typedef struct sbx_tunnel_map sbx_tunnel_map;

// What a runtime is made with. Zero it, or use SBX_RUNTIME_CONFIG_INIT; that suits nearly everybody.
typedef struct sbx_runtime_config {
    // sizeof(sbx_runtime_config), or 0.
    uint32_t size;
    // SBX_RUNTIME_..., added up.
    uint32_t flags;
    // The runsc to use; NULL: SBX_RUNSC, PATH, and the well-known places.
    const char *runsc;
    // An installed copy of the keeper to use instead of the embedded one; NULL: SBX_KEEPER, or none.
    const char *keeper;
} sbx_runtime_config;

// What went wrong. The caller owns it, it is written on failure only, and NULL may be passed instead.
//
// Make one with SBX_ERROR_INIT, or zero it. It can be used for any number of calls, by one thread at a
// time. A `size` that is neither 0 nor possible makes every call SBX_ESIZE, before it does anything.
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

// What a file operation has done, as the sandbox reports it: sbx_operation_totals. The caller owns it; zero it or use
// SBX_FILE_TOTALS_INIT.
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
    // Flows that the policy denied.
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

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library that is running, such as "0.1.0".
//
// The text is static. Any thread, never blocks, also in a forked child.
const char *sbx_version(void);

// The version of the library that is running, as a number like SBX_ABI_VERSION.
//
// A program may run with a library whose number is at least the SBX_ABI_VERSION it was compiled with
// and has the same major number (while that is 0, the same minor number too). Any thread, never blocks.
uint32_t sbx_abi_version(void);

// Sends the library's log lines to a descriptor: a socket, pipe, terminal or file.
//
// `level` is 0 nothing, 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing. With `fd` -1 or
// level 0 nothing is logged, which is the default. No secret is logged at any level: no environment, no
// key, no data of tunnels.
//
// The descriptor is duplicated and stays the caller's. One setting for the whole process. Any thread;
// never blocks, also not when the reader of the lines is slow: lines are lost then, and counted. While a line
// is written to anything but a socket, SIGPIPE and SIGXFSZ are held back on the writing thread.
//
// Returns 0; SBX_EINVALID, SBX_ESYSTEM (not a usable descriptor), SBX_ESTATE (a Rust program that
// contains the library has a logger of its own), SBX_EFORKED, SBX_EPANIC.
int sbx_log_set_fd(int fd, int level);

// Makes a runtime: finds runsc, reads the environment, starts two threads.
//
// `config` may be NULL. Free the runtime with sbx_runtime_free. Any thread; may block for some
// milliseconds, longer if runsc doesn't answer (bounded).
//
// Returns 0 and sets *runtime; SBX_EINVALID, SBX_ESIZE, SBX_EHOST, SBX_ERUNSC_MISSING,
// SBX_ERUNSC_UNUSABLE, SBX_ELIMIT, SBX_ESYSTEM, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `config` must point to such a struct or be NULL, `runtime` to a place for the result, `error` to an error
// struct or be NULL.
int sbx_runtime_new(const struct sbx_runtime_config *config,
                    struct sbx_runtime **runtime,
                    struct sbx_error *error);

// The doctor: checks everything that a runtime made with this config needs of the host.
//
// What is missing is in the report, not an error of the call. `config` may be NULL. Free the report with
// sbx_report_free. Any thread; may block for some hundred milliseconds (runsc is run, bounded).
//
// Returns 0 and sets *report; SBX_EINVALID, SBX_ESIZE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// As for sbx_runtime_new.
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
//
// Requires:
// `config` must point to such a struct or be NULL, `operation` to a place for the result, `error` to an error struct or
// be NULL.
int sbx_runtime_check_begin(const struct sbx_runtime_config *config,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Lists the sandboxes of a runtime (NULL: the default one) that have not ended, as they are at this moment.
//
// Free the list with sbx_sandbox_list_free. Any thread, never blocks.
//
// Returns 0 and sets *list; SBX_EHANDLE, SBX_EINVALID, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC; with NULL also
// what making a runtime returns, without what is wrong with runsc.
//
// Requires:
// `list` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_runtime_sandboxes(struct sbx_runtime *runtime,
                          struct sbx_sandbox_list **list,
                          struct sbx_error *error);

// Ends every sandbox of a runtime and both its threads, and frees it; NULL is ignored.
//
// Calls that wait on its sandboxes return SBX_ECLOSED; the sandboxes' handles stay and are freed as usual.
// Any thread; blocks until everything is gone (bounded). A thread that hangs on the host (a mount) is left to the
// kernel.
//
// A handle that was freed already is ignored.
void sbx_runtime_free(struct sbx_runtime *runtime);

// Whether sandboxes can be created: nothing is missing.
//
// Returns 1 or 0; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_report_usable(const struct sbx_report *report);

// How many findings there are.
//
// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_report_count(const struct sbx_report *report);

// How a requirement stands: SBX_FINDING_OK, SBX_FINDING_LIMITED or SBX_FINDING_MISSING.
//
// Returns that; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_report_status(const struct sbx_report *report, size_t index);

// What the requirement is called. NULL for a bad handle or index.
const char *sbx_report_name(const struct sbx_report *report, size_t index);

// What was found. NULL for a bad handle or index.
const char *sbx_report_detail(const struct sbx_report *report, size_t index);

// What to do about it; empty where there is nothing to do. NULL for a bad handle or index.
const char *sbx_report_remedy(const struct sbx_report *report, size_t index);

// Frees a report and its texts; NULL is allowed.
//
// Requires:
// No text of the report may be used after.
void sbx_report_free(struct sbx_report *report);

// How many sandboxes are in the list.
//
// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_sandbox_list_count(const struct sbx_sandbox_list *list);

// A sandbox's id. NULL for a bad handle or index.
const char *sbx_sandbox_list_id(const struct sbx_sandbox_list *list, size_t index);

// A sandbox's name. NULL if it has none, or for a bad handle or index.
const char *sbx_sandbox_list_name(const struct sbx_sandbox_list *list, size_t index);

// The state that a sandbox was in: SBX_STATE_....
//
// Returns that; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_sandbox_list_state(const struct sbx_sandbox_list *list, size_t index);

// Frees a list and its texts; NULL is allowed.
//
// Requires:
// No text of the list may be used after.
void sbx_sandbox_list_free(struct sbx_sandbox_list *list);

// Makes a queue in which up to `capacity` events wait, from 1 to 65536.
//
// What does not fit is dropped and counted in the last waiting event's `lost`. What is waited for is never dropped:
// SBX_EVENT_STARTED, FAILED, EXITED, PROCESS_STARTED, PROCESS_EXITED, POLICY_APPLIED, OPERATION_DONE and CHECKED.
// After a loss, sbx_wait_ready and sbx_operation_next_change tell what READY and FILE_CHANGED would have. Free
// the queue with sbx_queue_free. Any thread, never blocks.
//
// Returns 0 and sets *queue; SBX_EINVALID, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `queue` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_queue_new(uint32_t capacity,
                  struct sbx_queue **queue,
                  struct sbx_error *error);

// Opens the queue's doorbell: a descriptor that becomes readable when the queue becomes non-empty.
//
// It is one end of an AF_UNIX stream pair, non-blocking and close-on-exec, for epoll, libuv, Node's
// net.Socket, asyncio, Go's netpoller. The caller owns and closes it. When it is readable, read its bytes
// away (they mean nothing), then call sbx_queue_next until it returns 0. Opening it again replaces the
// one before, which reads end-of-file then; so does freeing the queue. Any thread, never blocks.
//
// Returns the descriptor; SBX_EHANDLE, SBX_ECLOSED, SBX_ESYSTEM, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_queue_open_fd(struct sbx_queue *queue, struct sbx_error *error);

// Takes the oldest event.
//
// Any thread, never blocks: wait with sbx_queue_open_fd.
//
// Returns 1 and fills *event, or 0 when there is none; SBX_EHANDLE, SBX_ESIZE, SBX_EINVALID (event is
// NULL), SBX_EFORKED, SBX_EPANIC. No event is taken then.
//
// Requires:
// `event` must point to an event struct, `error` to an error struct or be NULL.
int sbx_queue_next(struct sbx_queue *queue, struct sbx_event *event, struct sbx_error *error);

// Frees a queue; NULL is allowed. Events that wait and that come later are thrown away.
//
// Sandboxes that use it live on. Any thread, never blocks.
//
// A handle that was freed already is ignored.
void sbx_queue_free(struct sbx_queue *queue);

// Waits until an operation has ended, and returns how.
//
// Any thread, any number of times; blocks for `timeout_ms`.
//
// Returns 0 if it was done; SBX_ETIMEDOUT if it goes on; else its own error: SBX_ECLOSED if it was cancelled, others as
// its ..._begin function says. A file operation that has reached a limit of its options ends with SBX_ETIMEDOUT, too:
// sbx_operation_count returns SBX_ESTATE only while it goes on.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_operation_wait(const struct sbx_operation *operation,
                       int64_t timeout_ms,
                       struct sbx_error *error);

// Ends an operation that goes on, with SBX_ECLOSED and its event. What it has done so far stays done.
//
// One that has ended stays as it ended, and a change of a policy can't be stopped. Any thread, never blocks.
//
// Returns 0.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_operation_cancel(struct sbx_operation *operation, struct sbx_error *error);

// The connection of sbx_connect_begin, or the host's end of the stream of a download, upload, copy in or copy out. Once.
//
// An AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Write to it with send and
// MSG_NOSIGNAL. A connection is there when the operation has ended, a stream from the beginning.
//
// What is read from a stream up to its end is complete only if sbx_operation_wait returns 0; what is written is complete
// when its end is shut down or closed, and was stored only if that returns 0. The other end is the sandbox's, which need
// not close it when the operation ends: wait for that, too. To give up in the middle, cancel the operation before
// closing. Any thread, never blocks.
//
// Returns the descriptor; SBX_ESTATE (it goes on, has no descriptor, or that was opened before), the operation's own
// error.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_operation_open_fd(struct sbx_operation *operation,
                          struct sbx_error *error);

// The bytes of sbx_file_read_begin, not terminated; `length` gets their number. They live as long as the handle.
//
// Any thread, never blocks. NULL for a bad handle, when `length` is NULL, or if the operation was not done.
//
// Requires:
// `length` must point to a place for the result or be NULL.
const uint8_t *sbx_operation_bytes(const struct sbx_operation *operation,
                                   size_t *length);

// How many entries a file operation has found: those of a list, or the one that was described.
//
// Any thread, never blocks.
//
// Returns the count; SBX_ESTATE (it goes on), else the operation's own error.
int sbx_operation_count(const struct sbx_operation *operation);

// One of the entries that a file operation has found, by its place from 0.
//
// Any thread, never blocks.
//
// Returns 0 and fills *entry; SBX_ENOTFOUND (the index), SBX_ESTATE (it goes on), the operation's own error,
// SBX_EINVALID, SBX_ESIZE.
//
// Requires:
// `entry` must point to an entry struct or be NULL, `error` to an error struct or be NULL.
int sbx_operation_entry(const struct sbx_operation *operation,
                        size_t index,
                        struct sbx_file_entry *entry,
                        struct sbx_error *error);

// What a file operation has done, as the sandbox reports it.
//
// Any thread, never blocks.
//
// Returns 0 and fills *totals; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
//
// Requires:
// `totals` must point to a totals struct or be NULL, `error` to an error struct or be NULL.
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
//
// Requires:
// `path` must point to `capacity` writable bytes or be NULL, `error` to an error struct or be NULL.
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
//
// Requires:
// `policy` must point to a place for the result or be NULL, `generation` to a number or be NULL, `error` to an error
// struct or be NULL.
int sbx_operation_policy(const struct sbx_operation *operation,
                         struct sbx_policy **policy,
                         uint64_t *generation,
                         struct sbx_error *error);

// The statistics of sbx_sandbox_stats_begin, as they were when it ended.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and fills *stats; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
//
// Requires:
// `stats` must point to a stats struct or be NULL, `error` to an error struct or be NULL.
int sbx_operation_stats(const struct sbx_operation *operation,
                        struct sbx_stats *stats,
                        struct sbx_error *error);

// The report of sbx_runtime_check_begin, to be freed with sbx_report_free.
//
// Any thread, any number of times, never blocks.
//
// Returns 0 and sets *report; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
//
// Requires:
// `report` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_operation_report(const struct sbx_operation *operation,
                         struct sbx_report **report,
                         struct sbx_error *error);

// Frees an operation and its result, and cancels it if it still goes on; NULL is allowed.
//
// Descriptors that were opened stay the caller's. Any thread, never blocks.
//
// Requires:
// None of its bytes and texts may be used after. A handle that was freed already is ignored.
void sbx_operation_free(struct sbx_operation *operation);

// A policy by which any public address may be reached, save what is denied. A config without a policy has
// one of these.
//
// Never reached are loopback, private, link-local, shared (CGNAT), multicast and reserved addresses, metadata
// services, public ranges for a provider's internal services (IBM's 161.26.0.0/16 and 166.8.0.0/14), the host's own
// addresses, and its neighbours on its own links, also at public addresses (sbx_policy_allow_local_cidr opens those):
// as its routing has them at that moment. A neighbour is what the most specific route reaches without a gateway,
// unless that is a default route (0/0, or the halves 0/1 and 128/1) or leads over a point-to-point link. A cloud's
// public address of the host that isn't configured on it can't be known: deny it with sbx_policy_deny_cidr. Free it
// with sbx_policy_free. Any thread, never blocks. Returns NULL when no handle is left or in a forked child.
struct sbx_policy *sbx_policy_new_open(void);

// A policy by which only what is allowed may be reached; without entries, nothing.
//
// An entry opens a private or otherwise special range only when it lies inside that range (10.1.0.0/16 does,
// 0.0.0.0/0 does not), neighbours at public addresses on a link of the host's own only when it lies inside that
// link's range, and a metadata service or an address of the host only when it is for that very address (/32,
// /128). Free it with sbx_policy_free. Any thread, never blocks. Returns NULL when no handle is left or in a forked
// child.
struct sbx_policy *sbx_policy_new_allowlist(void);

// A policy of no network at all: nothing leaves, and there are no tunnels.
//
// A config with it and any port or inbound allowlist is refused. Free it with sbx_policy_free. Any
// thread, never blocks. Returns NULL when no handle is left or in a forked child.
struct sbx_policy *sbx_policy_new_blocked(void);

// Allows a range such as "192.0.2.0/24" or "2001:db8::/32", for any protocol.
//
// The range is taken in plain form only: no bits behind the prefix, no missing prefix, no leading zeros,
// no IPv4-mapped address, no zone, no name. Only an allowlist takes it. The text is copied. One thread at
// a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `cidr` must be a terminated text or NULL.
int sbx_policy_allow_cidr(struct sbx_policy *policy, const char *cidr);

// Lets neighbours on the host's own links be reached, as far as their addresses are public and lie in this range.
// Only an open policy takes it: it denies them otherwise (SBX_REASON_ON_LINK). Private and special ranges, metadata
// services and the host's own addresses stay closed. In an allowlist, sbx_policy_allow_cidr with a range inside the
// link's does that.
//
// Forms, ownership and threads as for sbx_policy_allow_cidr.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `cidr` must be a terminated text or NULL.
int sbx_policy_allow_local_cidr(struct sbx_policy *policy,
                                const char *cidr);

// Denies a range. It wins over everything that allows. Open policies and allowlists take it.
//
// Forms, ownership and threads as for sbx_policy_allow_cidr.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `cidr` must be a terminated text or NULL.
int sbx_policy_deny_cidr(struct sbx_policy *policy, const char *cidr);

// Allows a domain: a host name ("example.com"), or "*." and a host name ("*.example.com"), which stands for
// every name below that one, at any depth, but not for itself.
//
// A sandbox reaches a domain by TLS only, on port 443 and those of sbx_policy_add_tls_port: at an address that
// the sandbox's own resolver answered for that name a short while ago, with that name as the handshake's server
// name (SNI). Domains and ranges add up: what either allows is allowed. QUIC (UDP) shows no server name, so that
// it needs a range; clients fall back to TLS. Denied ranges and protected addresses stay denied.
//
// Names are taken in plain form only: letters, digits and hyphens, other scripts as A-labels (xn--...), no
// trailing dot, no address, no scheme, no port. Case doesn't matter. Only an allowlist takes domains. The text is
// copied. One thread at a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `pattern` must be a terminated text or NULL.
int sbx_policy_allow_domain(struct sbx_policy *policy,
                            const char *pattern);

// Lets the policy's domains be reached by TLS on this port too, from 1 to 65535, beside 443. Only an allowlist
// takes it. One thread at a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_policy_add_tls_port(struct sbx_policy *policy,
                            uint32_t port);

// Says which names the sandbox's resolver answers: SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES.
//
// A name that is not answered gets REFUSED (with the extended error 15, "blocked") at once, and no question for
// it leaves the machine. With SBX_DNS_ON an allowlist's sandbox can look up every name but reaches no more than
// before; questions themselves can carry data out. An open policy asks the host's own name servers everything, the
// names and services of its internal zones included, and the names of private addresses (PTR); only such addresses
// are left out of answers. With SBX_DNS_ADDRESSES it tells no more than the public addresses of names: nothing but
// A, AAAA, HTTPS and SVCB is asked for, and no alias, server or signature is named. SBX_DNS_OFF and domains exclude
// each other: that is an error when the policy is used. One thread at a time sets; never blocks.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_policy_set_dns(struct sbx_policy *policy,
                       int mode);

// Evaluates a policy for one address and reports the reason. Needs no sandbox and sends no packets.
//
// An address that is reached only as a domain's is not listed for this function: whether it may be reached
// depends on what the sandbox's resolver answered and on the server that the TLS handshake names.
//
// `address` is an IPv4 or IPv6 address in plain form, `port` 1 to 65535 (no entry names ports yet: it is only
// checked), `protocol` an IP protocol's number (6 is TCP, 17 UDP; nothing else leaves a sandbox). The host's own
// addresses and its neighbours' are known by a look-up in its routing at this moment. Any thread, never blocks.
//
// Returns 0 and fills *verdict; SBX_EINVALID (also for a policy with a bad entry, which is named), SBX_ESIZE,
// SBX_EHANDLE, SBX_ESYSTEM (the routing can't be asked), SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `address` must be a terminated text or NULL, `verdict` must point to a verdict struct, `error` to an error
// struct or be NULL.
int sbx_policy_check(const struct sbx_policy *policy,
                     const char *address,
                     uint32_t port,
                     uint32_t protocol,
                     struct sbx_verdict *verdict,
                     struct sbx_error *error);

// Frees a policy; NULL is allowed. Configs and sandboxes have copies of their own. Any thread, never blocks.
//
// A handle that was freed already is ignored.
void sbx_policy_free(struct sbx_policy *policy);

// The policy's default verdict, for destinations that match no entry.
//
// Any thread, never blocks. Returns SBX_POLICY_OPEN, SBX_POLICY_ALLOWLIST or SBX_POLICY_BLOCKED; SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC.
int sbx_policy_mode(const struct sbx_policy *policy);

// Which names a policy has the sandbox's resolver answer: what sbx_policy_set_dns was given last.
//
// Any thread, never blocks. Returns SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES; SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC.
int sbx_policy_dns(const struct sbx_policy *policy);

// How many entries a policy has. A refused one doesn't count.
//
// Any thread, never blocks. Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_policy_entry_count(const struct sbx_policy *policy);

// An entry of a policy as text: "allow 192.0.2.0/24", "deny 2001:db8::/32", "domain *.example.com",
// "local 192.0.2.0/24".
//
// `index` is the entry's place from 0, in the order in which they were added: what sbx_verdict.entry and
// sbx_event.entry say. The text lives as long as the policy. Any thread, never blocks. NULL for a bad handle and
// an index that there is no entry for.
const char *sbx_policy_entry(const struct sbx_policy *policy,
                             size_t index);

// Makes a config of defaults: no command, the curated view of the host's programs as root file system,
// no ports, an open policy, 300 s of life.
//
// Free it with sbx_config_free. Any thread, never blocks. Returns NULL when no handle is left or in a
// forked child.
struct sbx_config *sbx_config_new(void);

// Says whether a sandbox can be asked for with this: the first bad value, or the first broken rule
// between settings. It looks at the config only, not at the host.
//
// Returns 0; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_config_check(const struct sbx_config *config, struct sbx_error *error);

// Frees a config; NULL is allowed. Sandboxes made with it are not affected.
//
// A handle that was freed already is ignored.
void sbx_config_free(struct sbx_config *config);

// The program and its arguments: `argc` texts, each shorter than 131072 bytes, and together with the environment at
// most 2097152, each counted with 9 more: Linux's own limits. The first is looked up in the PATH of the sandbox's
// environment unless it has a slash. A sandbox without a command runs nothing by itself and lives until its time is
// over or it is ended, ready for sbx_exec.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `argv` must point to `argc` terminated texts.
int sbx_config_set_command(struct sbx_config *config,
                           const char *const *argv,
                           size_t argc);

// Sets a variable of the environment of all programs of the sandbox; the same name again replaces it. Names match
// ^[a-zA-Z_][a-zA-Z0-9_]*$. Bounds are as for arguments, which `NAME=value` counts with. Values are never logged and
// never written to a file.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` and `value` must be terminated texts or NULL.
int sbx_config_set_env(struct sbx_config *config,
                       const char *name,
                       const char *value);

// The same as sbx_config_set_env for a secret: the library's copies of the value are overwritten as soon as they are
// no longer needed (this config's with the last sandbox made with it). Inside, a variable is what every process of
// the same user and root can read.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` and `value` must be terminated texts or NULL.
int sbx_config_set_secret(struct sbx_config *config,
                          const char *name,
                          const char *value);

// The directory inside that the program starts in, an absolute path (default "/"). It is made if it isn't
// there, as those above it, owned by the sandbox's root with mode 0755.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `path` must be a terminated text or NULL.
int sbx_config_set_workdir(struct sbx_config *config, const char *path);

// Who the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox (default its root).
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `user` must be a terminated text or NULL.
int sbx_config_set_user(struct sbx_config *config, const char *user);

// The sandbox's host name: labels of letters, digits and inner hyphens (RFC 1123), at most 64 bytes.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` must be a terminated text or NULL.
int sbx_config_set_hostname(struct sbx_config *config, const char *name);

// The sandbox's name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit. No two live sandboxes
// of a runtime have the same.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` must be a terminated text or NULL.
int sbx_config_set_name(struct sbx_config *config, const char *name);

// Sets a tag, for the host's own use: sbx_sandbox_tag. The same name again replaces it. Names are as those of
// sandboxes, values have at most 256 bytes, a sandbox has at most 64.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` and `value` must be terminated texts or NULL.
int sbx_config_set_tag(struct sbx_config *config, const char *name, const char *value);

// A directory of the host that is the root file system. Without it a curated view of the host is used: programs in
// /usr, /bin, /lib that everybody on the host may read, and a made-up /etc. Either is under a memory overlay: all of
// it can be written inside, and nothing on the host is changed by that.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `directory` must be a terminated text or NULL.
int sbx_config_set_rootfs(struct sbx_config *config,
                          const char *directory);

// Shows a file or directory of the host inside, read-only. Both paths are absolute; the destination is not
// "/", nor in /proc, /dev or /sys, nor used twice.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `source` and `destination` must be terminated texts or NULL.
int sbx_config_mount_read_only(struct sbx_config *config, const char *source, const char *destination);

// Shows a file or directory of the host inside, writable: what the sandbox writes there is on the host, as the host's
// user. It can make files executable, but not set-id: a mode with such a bit fails with EPERM or is not taken.
// Paths as for sbx_config_mount_read_only.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `source` and `destination` must be terminated texts or NULL.
int sbx_config_mount_writable(struct sbx_config *config,
                              const char *source,
                              const char *destination);

// How long the sandbox may live, in milliseconds, more than 0 (default 300000). Then it is ended with code
// 124 and SBX_EXIT_TIMED_OUT.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_timeout_ms(struct sbx_config *config, int64_t timeout_ms);

// How long the sandbox may be idle, in milliseconds, more than 0 (default: as long as it lives). Then it is ended
// with code 124 and SBX_EXIT_IDLE.
//
// It is idle while no program of sbx_exec runs or is being started, no operation on files goes on but watches, no
// byte goes through a tunnel or sbx_connect, and nothing is written to the standard input of its program. What that
// program does by itself doesn't count, nor does a connection on which nothing is sent.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_idle_timeout_ms(struct sbx_config *config,
                                   int64_t idle_timeout_ms);

// The most memory, in bytes, at least 64 MiB: the programs', their files in memory (all that is written, but for
// mounts), and gVisor's own, about 20 MB. A sandbox that needs more ends with SBX_EXIT_OUT_OF_MEMORY.
//
// The kernel holds it by a cgroup that the library makes below the process's own. As root that works as it is;
// an ordinary user's cgroup must be delegated (systemd-run --user --scope -p Delegate=yes PROGRAM). Else creating
// fails with SBX_EHOST, or it is as sbx_config_set_limit_mode says. Where cgroup v2 allows no processes beside
// sub-cgroups, the processes of the delegated cgroup are moved to a sub-cgroup of it, "sbx-host".
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_memory(struct sbx_config *config,
                          uint64_t bytes);

// The most processor time, in thousandths of a processor (1500 is one and a half), at least 10. gVisor's own
// counts. It is held by a cgroup and by nothing else: see sbx_config_set_memory.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_cpu(struct sbx_config *config, uint32_t millicpus);

// The most processes and threads inside, from 1 to 65535 (default 4096), held by gVisor: fork(2) fails with
// EAGAIN. It counts for each user inside; root there can become others, and what it can't do is go beyond
// gVisor's own 65536 or the limit of memory.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_max_processes(struct sbx_config *config, uint32_t count);

// The most bytes that may be written, at least 64 KiB, held by gVisor: write(2) fails with ENOSPC. So much for
// the root file system, and as much for each of /tmp and /dev/shm. All of it is memory of the host and counts for
// sbx_config_set_memory, too. What is written to mounts is the host's and isn't counted, and files that root inside
// makes in /dev are held by sbx_config_set_memory only (gVisor's own file system there has no size).
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_disk(struct sbx_config *config,
                        uint64_t bytes);

// The most descriptors of each process inside, from 8 to 1048576, held by gVisor (default: 1024, which programs
// may raise to 1048576 themselves). They cost the host memory, but no descriptors.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_max_open_files(struct sbx_config *config,
                                  uint32_t count);

// What to do if the kernel can't enforce the memory limit: SBX_LIMITS_STRICT (the default), or
// SBX_LIMITS_WATCHDOG.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_limit_mode(struct sbx_config *config, int32_t mode);

// Adds a tunnel on which the library ends TLS; the server inside speaks plain TCP.
// A port is from 1 to 65535 and listed once, of whatever kind. The tunnel listens on 127.0.0.1, on a port
// that the kernel picks; see sbx_config_bind_port. Every user of this machine can connect to it there: a loopback
// address has no owner. Where that matters, let the server inside ask for a secret.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_add_encrypted_port(struct sbx_config *config,
                                  uint32_t port);

// Adds a tunnel as sbx_config_add_encrypted_port does, which also offers HTTP/2 (ALPN "h2").
// A port is from 1 to 65535 and listed once, of whatever kind. The tunnel listens on 127.0.0.1, on a port
// that the kernel picks; see sbx_config_bind_port. Every user of this machine can connect to it there.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_add_h2_port(struct sbx_config *config, uint32_t port);

// Adds a tunnel of raw TCP.
// A port is from 1 to 65535 and listed once, of whatever kind. The tunnel listens on 127.0.0.1, on a port
// that the kernel picks; see sbx_config_bind_port. Every user of this machine can connect to it there.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_add_unencrypted_port(struct sbx_config *config, uint32_t port);

// Says where the tunnel of a listed port listens on the host: an IPv4 or IPv6 address, and a port or 0 for one
// that the kernel picks. Any address but a loopback one lets other machines reach the server inside: see
// sbx_config_set_inbound_cidr_allowlist.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `address` must be a terminated text or NULL.
int sbx_config_bind_port(struct sbx_config *config,
                         uint32_t port,
                         const char *address,
                         uint32_t host_port);

// Adds an upstream DNS server for the sandbox, in place of those of the host's /etc/resolv.conf: an address
// ("192.0.2.53", "2001:db8::53"), or an address and a port ("127.0.0.1:5353", "[2001:db8::53]:5353"). Servers that
// are added later are asked when earlier ones don't answer; there may be 8.
//
// It is asked from the host: it may be at any address that the host reaches, also at one that the sandbox doesn't.
// The text is copied.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `address` must be a terminated text or NULL.
int sbx_config_add_nameserver(struct sbx_config *config,
                              const char *address);

// Who may connect to the tunnels: only peers in one of `count` ranges, in the form of sbx_policy_allow_cidr.
// A count of 0 lets nobody in; without this call everybody who reaches the address may.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `ranges` must point to `count` terminated texts.
int sbx_config_set_inbound_cidr_allowlist(struct sbx_config *config, const char *const *ranges, size_t count);

// The certificate of encrypted tunnels: a chain, the leaf first, and its unencrypted key, both PEM. Without it
// the library makes one under a CA of the sandbox's own: sbx_tunnel_map_ca_pem. The key is never logged. It can be
// ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 to 4096 bits.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `chain_pem` and `key_pem` must be terminated texts or NULL.
int sbx_config_set_tls_certificate(struct sbx_config *config,
                                   const char *chain_pem,
                                   const char *key_pem);

// A further DNS name ("*." in front for a wildcard) or address that the certificate made by the library is
// valid for, beside 127.0.0.1, ::1 and localhost. Not together with sbx_config_set_tls_certificate.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` must be a terminated text or NULL.
int sbx_config_add_tls_name(struct sbx_config *config, const char *name);

// What the sandbox may reach. The policy is copied; its first bad entry, if any, becomes the config's. Without
// a policy it is open: every public address, and nothing of the host or its networks (sbx_policy_new_open).
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_policy(struct sbx_config *config,
                          const struct sbx_policy *policy);

// Budgets of what leaves the sandbox; 0 is the default or none.
//
// Of connections and UDP flows at most `max_flows` are open at once (default 16,384) and `new_flows_per_second` begin
// within a second (default: 200, and 2,000 at once after a quiet while): one more is reset at once, or its datagram
// dropped. Beyond `bytes_per_second`, both directions together, nothing more is read until there is room: the sender is
// slowed down. When `total_bytes` have passed every flow is reset and no other is let through. Each of these but
// `bytes_per_second` is SBX_EVENT_LIMIT, every ten seconds at most.
//
// What the resolver asks for the sandbox and is answered counts as bytes that pass, and waits for room as others do:
// when `total_bytes` have passed no question leaves, and a name that isn't known already is REFUSED. The resolver takes
// a thousand questions a second, and a thousand at once after a pause; more of them wait over TCP, and over UDP those
// are lost that find no room.
//
// Each connection takes a local port of the host's towards its destination and, if the sandbox closes it first, keeps
// it for a minute (TIME_WAIT): towards one destination all sandboxes together get three quarters of those that there
// are, and one of *n* sandboxes 1/(*n* + 1) of these. One more is reset at once, with SBX_EVENT_LIMIT.
//
// What the kernel keeps in sockets is the host's memory. When the connections of one of *n* sandboxes together hold more
// than 256 MiB of it, or than 1/(*n* + 1) of half of what net.ipv4.tcp_mem spares from (16 MiB at least), those with more
// than their part and those that begin get small buffers, which makes them slower and cuts none, with SBX_EVENT_LIMIT.
// If they go on to hold twice as much, those with more than their part are reset, the longest silent first, until it
// is less, with another SBX_EVENT_LIMIT. The same for the connections of its tunnels.
//
// Each UDP flow takes a local port of the host's: all sandboxes together get a quarter of those that there are
// (net.ipv4.ip_local_port_range), and one of *n* sandboxes 1/(*n* + 1) of these. Without room, flows that have been
// silent for a second give way.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_egress_limits(struct sbx_config *config,
                                 uint32_t max_flows,
                                 uint32_t new_flows_per_second,
                                 uint64_t bytes_per_second,
                                 uint64_t total_bytes);

// Gives the sandbox one TCP port of its gateway's address, 192.0.0.1, which leads to an address that the host names,
// such as "127.0.0.1:8080" or "[::1]:8080": a proxy of the host's for models, say. Nothing else of that address is
// reached by it; a policy neither opens nor closes it, the egress limits hold for it too. Port 53 is refused: it is
// the sandbox's resolver. At most 16.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `address` must be a terminated text or NULL.
int sbx_config_add_host_service(struct sbx_config *config,
                                uint32_t port,
                                const char *address);

// The MTU of the sandbox's interface, from 1280 to 9000 (default 1500).
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_mtu(struct sbx_config *config, uint32_t bytes);

// What becomes of SBX_STDIN, SBX_STDOUT or SBX_STDERR: SBX_STREAM_NULL (the default), SBX_STREAM_DESCRIPTOR or,
// for SBX_STDERR, SBX_STREAM_MERGED.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_stream(struct sbx_config *config,
                          int32_t stream,
                          int32_t mode);

// Keeps the first `head` and the last `tail` bytes of SBX_STDOUT or SBX_STDERR for sbx_sandbox_captured; each
// at most 16 MiB, not both 0. 65536 each is a good choice.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_capture_stream(struct sbx_config *config, int32_t stream, size_t head, size_t tail);

// The server inside is ready when a TCP connection to its port succeeds, tried every `interval_ms` milliseconds,
// more than 0 (100 is a good choice). A sandbox has one probe at most: sbx_wait_ready, SBX_EVENT_READY.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_tcp_probe(struct sbx_config *config,
                             uint32_t port,
                             int64_t interval_ms);

// The server inside is ready when this program ends with code 0, tried every `interval_ms` milliseconds, more
// than 0. The arguments are bounded as in sbx_config_set_command.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `argv` must point to `argc` terminated texts.
int sbx_config_set_exec_probe(struct sbx_config *config,
                              const char *const *argv,
                              size_t argc,
                              int64_t interval_ms);

// Where the sandbox's events go, and the number they carry, which is the host's own. The queue may be freed
// before the sandbox ends.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_config_set_queue(struct sbx_config *config, struct sbx_queue *queue, uint64_t cookie);

// Creates a sandbox and waits until its program was started.
//
// `runtime` NULL is the default runtime. The config stays the caller's. Free the sandbox with
// sbx_sandbox_free, which also ends it. Any thread; blocks for some hundred milliseconds (where the host hangs, for
// 120 s of planning and 60 s of starting at most). Hosts with an event loop use sbx_create_begin.
//
// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EHANDLE, SBX_EEXISTS (the name),
// SBX_EEXEC (the program), SBX_EHOST, SBX_ERUNSC_MISSING, SBX_ERUNSC_UNUSABLE, SBX_EENGINE, SBX_ELIMIT,
// SBX_ECLOSED, SBX_ESYSTEM, SBX_EFORKED, SBX_EPANIC. Nothing is left of a sandbox that failed.
//
// Requires:
// `sandbox` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_create(struct sbx_runtime *runtime,
               const struct sbx_config *config,
               struct sbx_sandbox **sandbox,
               struct sbx_error *error);

// Begins to create a sandbox and returns at once.
//
// It ends with SBX_EVENT_STARTED or SBX_EVENT_FAILED on the config's queue; sbx_sandbox_state and
// sbx_sandbox_failure tell it too. The handle is valid from now on, whatever happens. This call returns what
// is wrong with the config by itself, and that the name is taken. Whatever needs a look at the host (a port,
// a directory, runsc, limits) comes later, with the code and the text that sbx_create has for it. Any thread,
// never blocks: what hangs on the host (a mount, runsc) hangs this sandbox only, as long as sbx_create may take
// at most, and can be ended.
//
// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EHANDLE, SBX_EEXISTS, SBX_ELIMIT, SBX_EHOST
// (no /proc), SBX_ECLOSED, SBX_ESYSTEM, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// As for sbx_create.
int sbx_create_begin(struct sbx_runtime *runtime,
                     const struct sbx_config *config,
                     struct sbx_sandbox **sandbox,
                     struct sbx_error *error);

// Waits until the listeners of the sandbox's tunnels exist and returns where they are.
//
// `timeout_ms` is negative for ever, 0 to look only. That a tunnel exists doesn't mean that the server
// inside answers: sbx_wait_ready. Free the map with sbx_tunnel_map_free. Any thread; blocks.
//
// Returns 0 and sets *tunnels; SBX_ETIMEDOUT, SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_EHANDLE,
// SBX_EINVALID, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC; what creating failed with, if it did.
//
// Requires:
// `tunnels` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_tunnels(struct sbx_sandbox *sandbox,
                int64_t timeout_ms,
                struct sbx_tunnel_map **tunnels,
                struct sbx_error *error);

// Waits until the server inside answers: the config's probe, or without one a connection to the first port
// listed. With neither there is nothing to ask: SBX_EINVALID.
//
// `timeout_ms` as in sbx_tunnels. Any thread; blocks. Hosts with an event loop call it with time-out 0: it looks, and
// without a probe it begins to ask, so that SBX_EVENT_READY comes when it is.
//
// Returns 0; SBX_ETIMEDOUT, SBX_EINVALID (nothing to ask), SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC; what creating failed with, if it did.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_wait_ready(struct sbx_sandbox *sandbox,
                   int64_t timeout_ms,
                   struct sbx_error *error);

// Waits until the sandbox has ended and nothing of it is left.
//
// `timeout_ms` as in sbx_tunnels. `exit` may be NULL. Any thread, any number of times; blocks.
//
// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE, SBX_EHANDLE, SBX_EFORKED,
// SBX_EPANIC; what creating failed with, if it did.
//
// Requires:
// `exit` must point to an exit struct or be NULL, `error` to an error struct or be NULL.
int sbx_wait(struct sbx_sandbox *sandbox, int64_t timeout_ms, struct sbx_exit *exit, struct sbx_error *error);

// Asks for the sandbox's end, with code 137 and SBX_EXIT_TERMINATED.
//
// Any thread, any time, any number of times, also while it is being created; never blocks. The end itself
// is what sbx_wait waits for, or SBX_EVENT_EXITED. A sandbox that has ended stays as it ended.
//
// Returns 0; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_terminate(struct sbx_sandbox *sandbox, struct sbx_error *error);

// Shuts the sandbox down gracefully: sends its program a signal (15, SIGTERM, is usual), accepts no further connection,
// and ends the sandbox when the program and the last connection have ended. What is left after `grace_ms`
// milliseconds is killed. A sandbox without a command ends when every program executed in it has ended; all of
// them get the signal.
//
// The sandbox ends as its program did (SBX_EXIT_EXITED or SBX_EXIT_SIGNALLED); or with SBX_EXIT_TERMINATED and
// 137 if the program had to be killed, if there is none, or if the sandbox was still being created. Called
// again, it sends the signal again and may shorten the time. Any thread, any time; never blocks: sbx_wait,
// SBX_EVENT_EXITED. A sandbox that has ended stays as it ended.
//
// Returns 0; SBX_EINVALID (the signal is not from 1 to 64, the time is negative), SBX_EHANDLE, SBX_EFORKED,
// SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
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
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_connect(struct sbx_sandbox *sandbox,
                uint32_t port,
                struct sbx_error *error);

// Begins sbx_connect: sbx_operation_open_fd gives the descriptor, once.
//
// Cancelling it closes the connection that may have been made. sbx_operation says what holds for everything that is
// begun.
//
// Returns 0; SBX_EINVALID, SBX_ESTATE, SBX_ECLOSED, SBX_ELIMIT, SBX_ESYSTEM.
//
// Requires:
// `operation` must point to a place for the result, `error` to an error struct or be NULL.
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
// Returns 0; SBX_EINVALID (not from 1 to 64), SBX_ESTATE (it isn't running, or there is no program), SBX_ECLOSED,
// SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_signal(struct sbx_sandbox *sandbox,
               int signal,
               struct sbx_error *error);

// Frees a sandbox and ends it if it still runs; NULL is allowed. Of several handles to the same sandbox
// (sbx_sandbox_find) the last one that is freed ends it.
//
// Calls that wait on it return SBX_ECLOSED then. Descriptors that were opened stay the caller's; tunnel maps and
// captures live on. Any thread, never blocks.
//
// Requires:
// No text of the sandbox may be used after. A handle that was freed already is ignored.
void sbx_sandbox_free(struct sbx_sandbox *sandbox);

// Where the sandbox is in its life: SBX_STATE_.... It only ever moves forward. Any thread, never blocks.
//
// Returns that; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_sandbox_state(const struct sbx_sandbox *sandbox);

// The sandbox's id: "sb-" and 16 hexadecimal digits. The text lives as long as the handle.
//
// Any thread, never blocks. NULL for a bad handle.
const char *sbx_sandbox_id(const struct sbx_sandbox *sandbox);

// The sandbox's name. The text lives as long as the handle.
//
// Any thread, never blocks. NULL if it has none, or for a bad handle.
const char *sbx_sandbox_name(const struct sbx_sandbox *sandbox);

// The value of one of the sandbox's tags: sbx_config_set_tag. The text lives as long as the handle.
//
// Any thread, never blocks. NULL if there is no such tag, or for a bad handle or name.
//
// Requires:
// `name` must be a terminated text or NULL.
const char *sbx_sandbox_tag(const struct sbx_sandbox *sandbox, const char *name);

// Finds the sandbox of that name in a runtime (NULL: the default one), if it has not ended.
//
// The handle is another one to the same sandbox, to be freed with sbx_sandbox_free; the sandbox ends when its
// last handle is freed. Any thread, never blocks.
//
// Returns 0 and sets *sandbox; SBX_ENOTFOUND, SBX_EINVALID, SBX_EHANDLE, SBX_ELIMIT, SBX_EFORKED, SBX_EPANIC; with
// NULL also the errors of sbx_runtime_new, except SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
//
// Requires:
// `name` must be a terminated text or NULL, `sandbox` must point to a place for the result, `error` to an error
// struct or be NULL.
int sbx_sandbox_find(struct sbx_runtime *runtime,
                     const char *name,
                     struct sbx_sandbox **sandbox,
                     struct sbx_error *error);

// Why the sandbox could not be created, after sbx_create_begin.
//
// Any thread, never blocks.
//
// Returns 0 if it was created or still is being; else the code, with *error filled as by sbx_create; also
// SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_sandbox_failure(const struct sbx_sandbox *sandbox, struct sbx_error *error);

// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR.
//
// Once each. Standard input is an AF_UNIX stream, the outputs are pipes; the program has a pipe in each case. Write
// with send and MSG_NOSIGNAL, because writing to a program that has ended would otherwise raise SIGPIPE in your
// process. The descriptor is non-blocking and close-on-exec; the caller owns and closes it. (For stdio or a blocking
// read(2), clear O_NONBLOCK with fcntl(2): fgets takes EAGAIN for the end of the file.) Any thread, never blocks.
//
// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already, or still
// starting), SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_sandbox_open_fd(struct sbx_sandbox *sandbox,
                        int32_t stream,
                        struct sbx_error *error);

// What has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_config_capture_stream.
//
// Free it with sbx_captured_free. Any thread, any number of times, also after the end; never blocks.
//
// Returns 0 and sets *captured; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT, SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `captured` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_sandbox_captured(const struct sbx_sandbox *sandbox,
                         int32_t stream,
                         struct sbx_captured **captured,
                         struct sbx_error *error);

// Replaces the sandbox's policy, and waits until the new one is in force.
//
// When it returns, connections and UDP flows that the new policy denies have been reset on both sides; those that
// both policies allow were not disturbed, and at no moment did anything get through that neither allows. What becomes
// denied is told as SBX_EVENT_DENIED. Where it fails the old policy stays in force. A blocked policy closes the way
// out and leaves the tunnels; a sandbox that was created blocked has no network, and can't be given one. Changes
// asked for at the same time are made one after the other.
//
// `generation` may be NULL; the first policy has 0 and each change the next number. The policy is copied. Any thread;
// blocks for some milliseconds, with 100,000 entries for a second. Hosts with an event loop use sbx_set_policy_begin.
//
// Returns 0 and sets *generation; SBX_EINVALID (a bad entry, which is named), SBX_EUNSUPPORTED, SBX_ESTATE (it has
// ended), SBX_ELIMIT, SBX_ESYSTEM, SBX_ECLOSED, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `generation` must point to a number or be NULL, `error` to an error struct or be NULL.
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
//
// Requires:
// `operation` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_set_policy_begin(struct sbx_sandbox *sandbox,
                         const struct sbx_policy *policy,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// What is in force: a copy of the policy, with its generation.
//
// The rules of the sandbox's gateway are read back from the kernel and compared with the policy; should they differ,
// that is an error. `copy` or `generation` may be NULL. Free the copy with sbx_policy_free. Any thread; blocks for a
// moment, and until earlier changes are made. Hosts with an event loop use sbx_sandbox_policy_begin.
//
// Returns 0 and sets *copy and *generation; SBX_EUNSUPPORTED (it was created blocked: there are no rules), SBX_ESTATE
// (it has ended), SBX_EINTERNAL (they differ), SBX_ELIMIT, SBX_ESYSTEM, SBX_ECLOSED, SBX_EHANDLE, SBX_EFORKED,
// SBX_EPANIC.
//
// Requires:
// `copy` must point to a place for the result or be NULL, `generation` to a number or be NULL, `error` to an error
// struct or be NULL.
int sbx_sandbox_policy(struct sbx_sandbox *sandbox,
                       struct sbx_policy **copy,
                       uint64_t *generation,
                       struct sbx_error *error);

// Begins sbx_sandbox_policy: sbx_operation_policy. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_ESTATE (the sandbox has ended), SBX_ECLOSED, SBX_ELIMIT.
//
// Requires:
// `operation` must point to a place for the result, `error` to an error struct or be NULL.
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
//
// Requires:
// `stats` must point to a stats struct, `error` to an error struct or be NULL.
int sbx_sandbox_stats(const struct sbx_sandbox *sandbox,
                      struct sbx_stats *stats,
                      struct sbx_error *error);

// Begins sbx_sandbox_stats: sbx_operation_stats. sbx_operation says what holds for everything that is begun.
//
// Returns 0; SBX_ECLOSED, SBX_ELIMIT.
//
// Requires:
// `operation` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_sandbox_stats_begin(struct sbx_sandbox *sandbox,
                            struct sbx_queue *queue,
                            uint64_t cookie,
                            struct sbx_operation **operation,
                            struct sbx_error *error);

// Makes a config without a command: environment, directory and user of the sandbox, no streams, no time-out.
//
// Free it with sbx_exec_config_free. Any thread, never blocks. Returns NULL when no handle is left or in a
// forked child.
struct sbx_exec_config *sbx_exec_config_new(void);

// Says whether a program can be asked for with this: the first bad value, or the first broken rule between
// settings.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_exec_config_check(const struct sbx_exec_config *config, struct sbx_error *error);

// Frees a config; NULL is allowed. Programs started with it are not affected.
//
// A handle that was freed already is ignored.
void sbx_exec_config_free(struct sbx_exec_config *config);

// The program and its arguments: `argc` texts, each shorter than 131072 bytes, and together with the environment, the
// sandbox's included, at most 2097152, each counted with 9 more: Linux's own limits. The first is looked up in the
// PATH of the program's environment unless it has a slash. It must be set.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `argv` must point to `argc` terminated texts.
int sbx_exec_config_set_command(struct sbx_exec_config *config,
                                const char *const *argv,
                                size_t argc);

// Sets a variable of the environment, over the sandbox's of the same name: sbx_config_set_env.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` and `value` must be terminated texts or NULL.
int sbx_exec_config_set_env(struct sbx_exec_config *config, const char *name, const char *value);

// The same for a secret: sbx_config_set_secret.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `name` and `value` must be terminated texts or NULL.
int sbx_exec_config_set_secret(struct sbx_exec_config *config, const char *name, const char *value);

// The directory inside that the program starts in, an absolute path; made if it isn't there, as for the
// sandbox's own program.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `path` must be a terminated text or NULL.
int sbx_exec_config_set_workdir(struct sbx_exec_config *config, const char *path);

// Who the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `user` must be a terminated text or NULL.
int sbx_exec_config_set_user(struct sbx_exec_config *config, const char *user);

// What becomes of SBX_STDIN, SBX_STDOUT or SBX_STDERR: SBX_STREAM_NULL (the default), SBX_STREAM_DESCRIPTOR or, for
// SBX_STDERR, SBX_STREAM_MERGED. Each program has streams of its own; one whose reader stops reading waits, and no
// other does.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_exec_config_set_stream(struct sbx_exec_config *config,
                               int32_t stream,
                               int32_t mode);

// Keeps the first `head` and the last `tail` bytes of SBX_STDOUT or SBX_STDERR for sbx_process_captured; each at
// most 16 MiB, not both 0. 65536 each is a good choice. The program is never held up by it.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_exec_config_capture_stream(struct sbx_exec_config *config,
                                   int32_t stream,
                                   size_t head,
                                   size_t tail);

// How long the program may run, in milliseconds, more than 0 (default: as long as the sandbox). Then it is killed
// with its session and all that is below it: code 124 and SBX_EXIT_TIMED_OUT. A daemon that has begun a session of its
// own and whose parents have ended lives on. The end is reported once the program no longer runs. If the sandbox's
// init hasn't confirmed that within twenty seconds, the whole sandbox ends, as SBX_EXIT_ENGINE_LOST.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_exec_config_set_timeout_ms(struct sbx_exec_config *config,
                                   int64_t timeout_ms);

// Gives the program a terminal of that size, each number from 1 to 65535, in the place of all three streams, which
// must not be set then: sbx_process_open_fd with SBX_TERMINAL. TERM is "xterm" unless it is set.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_exec_config_set_pty(struct sbx_exec_config *config,
                            uint32_t rows,
                            uint32_t columns);

// Where the program's events go, SBX_EVENT_PROCESS_..., and the number they carry, which is the host's own. It may be
// the sandbox's queue. Without a queue there are no events of it.
//
// Returns 0; SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_exec_config_set_queue(struct sbx_exec_config *config,
                              struct sbx_queue *queue,
                              uint64_t cookie);

// Executes a program in a running sandbox and waits until it was started, which takes some milliseconds.
//
// The config stays the caller's. The program leads a session and a process group of its own. Free the process with
// sbx_process_free, which doesn't end it. Any thread; blocks (bounded). Hosts with an event loop use sbx_exec_begin.
//
// Returns 0 and sets *process; SBX_EEXEC (not found, not executable, no such directory or user in the sandbox),
// SBX_EINVALID, SBX_ESTATE (the sandbox is still starting, is being stopped, or has ended), SBX_ELIMIT, SBX_EENGINE,
// SBX_ECLOSED, SBX_ESYSTEM, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `process` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_exec(struct sbx_sandbox *sandbox,
             const struct sbx_exec_config *config,
             struct sbx_process **process,
             struct sbx_error *error);

// Begins to execute a program and returns at once.
//
// That it was started is SBX_EVENT_PROCESS_STARTED on the config's queue. That it could not be is its end:
// SBX_EVENT_PROCESS_EXITED with the error's number, and sbx_process_failure. The handle is valid and its streams can
// be opened from now on, whatever happens. Any thread, never blocks.
//
// Returns 0 and sets *process; codes as sbx_exec, less those of what comes later.
//
// Requires:
// As for sbx_exec.
int sbx_exec_begin(struct sbx_sandbox *sandbox,
                   const struct sbx_exec_config *config,
                   struct sbx_process **process,
                   struct sbx_error *error);

// Waits until the program has ended. What it had written into a capture is in it then; what it had written into a
// descriptor can be read to its end whenever the host likes.
//
// `timeout_ms` is negative for ever, 0 to look only. `exit` may be NULL. A program that the sandbox's end takes along
// ends as the sandbox does: 137 and SBX_EXIT_TERMINATED also if the sandbox's own program ended by itself. Any thread,
// any number of times; blocks.
//
// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC; what
// starting it failed with, if it did.
//
// Requires:
// `exit` must point to an exit struct or be NULL, `error` to an error struct or be NULL.
int sbx_process_wait(struct sbx_process *process,
                     int64_t timeout_ms,
                     struct sbx_exit *exit,
                     struct sbx_error *error);

// Why the program could not be started, after sbx_exec_begin.
//
// Any thread, never blocks.
//
// Returns 0 if it was started or still is being; else the code, with *error filled as by sbx_exec; also SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_process_failure(const struct sbx_process *process,
                        struct sbx_error *error);

// Sends a signal to the program's process group: to itself and to what it has started, unless that has left the group
// (as the jobs of an interactive shell do).
//
// One that is still being started gets it right after. One that has ended gets none, which is no error. Any thread,
// never blocks.
//
// Returns 0; SBX_EINVALID (not from 1 to 64), SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_process_signal(struct sbx_process *process,
                       int signal,
                       struct sbx_error *error);

// Gives the program's terminal another size, each number from 1 to 65535. The programs in its foreground get
// SIGWINCH. What is typed goes another way, and may overtake it. Any thread, never blocks.
//
// Returns 0; SBX_EINVALID, SBX_ENOTFOUND (it has no terminal), SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_process_resize(struct sbx_process *process, uint32_t rows, uint32_t columns, struct sbx_error *error);

// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR, or of
// SBX_TERMINAL.
//
// Once each, also before the program was started. Standard input is an AF_UNIX stream, the outputs are pipes; the
// program has a pipe in each case. Write with send and MSG_NOSIGNAL, because writing to a program that has ended would
// otherwise raise SIGPIPE in your process. The terminal is an AF_UNIX stream: what is written is typed, what is read is
// shown, and closing it hangs up, which the program is told by SIGHUP. The terminal ends when its program has; an output
// when no process inside holds it any more. Descriptors are non-blocking and close-on-exec; the caller owns and closes
// them. Any thread, never blocks.
//
// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already), SBX_EHANDLE,
// SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `error` must point to an error struct or be NULL.
int sbx_process_open_fd(struct sbx_process *process,
                        int32_t stream,
                        struct sbx_error *error);

// What has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_exec_config_capture_stream.
//
// Free it with sbx_captured_free. Any thread, any number of times, also after the end; never blocks.
//
// Returns 0 and sets *captured; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT, SBX_EHANDLE, SBX_EFORKED,
// SBX_EPANIC.
//
// Requires:
// `captured` must point to a place for the result, `error` to an error struct or be NULL.
int sbx_process_captured(const struct sbx_process *process,
                         int32_t stream,
                         struct sbx_captured **captured,
                         struct sbx_error *error);

// Frees a process; NULL is allowed. The program is not ended by it, but what was not opened of its streams is closed
// (a terminal hangs up).
//
// Calls that wait on it return SBX_ECLOSED. Descriptors that were opened stay the caller's; captures live on. Any
// thread, never blocks.
//
// A handle that was freed already is ignored.
void sbx_process_free(struct sbx_process *process);

// The first bytes of the stream, not terminated; `length` gets their number.
//
// Returns NULL for a bad handle or when `length` is NULL.
//
// Requires:
// `length` must point to a place for the result or be NULL.
const uint8_t *sbx_captured_head(const struct sbx_captured *captured, size_t *length);

// The last bytes of the stream, if it is longer than the head, not terminated; `length` gets their number.
//
// Returns NULL for a bad handle or when `length` is NULL.
//
// Requires:
// `length` must point to a place for the result or be NULL.
const uint8_t *sbx_captured_tail(const struct sbx_captured *captured, size_t *length);

// How many bytes between head and tail were not kept.
//
// Returns 0 and sets *bytes; SBX_EHANDLE, SBX_EINVALID, SBX_EFORKED, SBX_EPANIC.
//
// Requires:
// `bytes` must point to a place for the result or be NULL.
int sbx_captured_dropped(const struct sbx_captured *captured, uint64_t *bytes);

// Frees it and its bytes; NULL is allowed.
//
// Requires:
// None of its bytes may be used after.
void sbx_captured_free(struct sbx_captured *captured);

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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `bytes` have `length` bytes, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
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
//
// Requires:
// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
// `error` to an error struct or be NULL.
int sbx_file_watch_begin(struct sbx_sandbox *sandbox,
                         const char *path,
                         const struct sbx_file_options *options,
                         struct sbx_queue *queue,
                         uint64_t cookie,
                         struct sbx_operation **operation,
                         struct sbx_error *error);

// How many tunnels there are.
//
// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_tunnel_map_count(const struct sbx_tunnel_map *map);

// The container port of the tunnel with an index below the count.
//
// Returns the port; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_tunnel_map_container_port(const struct sbx_tunnel_map *map, size_t index);

// The port on the host that a tunnel listens on.
//
// Returns the port; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
int sbx_tunnel_map_port(const struct sbx_tunnel_map *map, uint32_t container_port);

// The address on the host that a tunnel listens on. NULL for a bad handle or a port without a tunnel.
const char *sbx_tunnel_map_host(const struct sbx_tunnel_map *map, uint32_t container_port);

// The https:// url of an encrypted tunnel. NULL for a bad handle, a port without a tunnel, and a plain tunnel.
const char *sbx_tunnel_map_url(const struct sbx_tunnel_map *map,
                               uint32_t container_port);

// The certificate of the CA, in PEM, that an encrypted tunnel's certificate was made under. It is this sandbox's
// alone: a client that trusts it doesn't take another sandbox on the same port for this one. Both are valid from
// half a year before the sandbox was created until half a year after. NULL for a bad handle, a port without a tunnel, a
// plain tunnel, and one with the host's own certificate.
const char *sbx_tunnel_map_ca_pem(const struct sbx_tunnel_map *map,
                                  uint32_t container_port);

// The pin of an encrypted tunnel's certificate: SHA-256 of its public key info, in base64. NULL for a bad handle, a
// port without a tunnel, and a plain tunnel.
const char *sbx_tunnel_map_spki_sha256(const struct sbx_tunnel_map *map,
                                       uint32_t container_port);

// Frees a map and its texts; NULL is allowed.
//
// Requires:
// No text of the map may be used after.
void sbx_tunnel_map_free(struct sbx_tunnel_map *map);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SBX_H */
