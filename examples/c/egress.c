/*
 * Egress: what a sandbox may reach under each kind of policy, how the host learns what it tried, and a policy that is
 * changed while the sandbox runs.
 *
 *   cc -std=c99 -Iinclude examples/c/egress.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o egress
 *   ./egress [ADDRESS [PORT]]
 *
 * The address is a public one with a server at that port (default 1.1.1.1, 443). The sandbox connects to it, to a
 * cloud's metadata service, and to a private address. Whether the public one answers depends on your network; that
 * the others are never reached does not.
 */

#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sbx_error error = SBX_ERROR_INIT;

static void fail(void) {
    fprintf(stderr, "error %d: %s\n", error.code, error.message);
    exit(1);
}

static sbx_policy *new_policy(int32_t mode) {
    sbx_policy *policy = NULL;
    if (sbx_policy_new(mode, &policy, &error) < 0)
        fail();
    return policy;
}

static const char attempts[] = "import socket, sys\n"
                               "for address in sys.argv[2:]:\n"
                               "  s = socket.socket()\n"
                               "  s.settimeout(5)\n"
                               "  try:\n"
                               "    s.connect((address, int(sys.argv[1])))\n"
                               "    s.settimeout(0.5)\n"
                               "    s.recv(1)\n"
                               "  except TimeoutError: pass\n"
                               "  except OSError as e:\n"
                               "    print(f'  inside:  {address}: {e.strerror}')\n"
                               "    continue\n"
                               "  print(f'  inside:  {address}: connected')\n";

/* Connects, waits for a line, and tells what became of the connection and of another attempt. */
static const char visit[] = "import socket, sys\n"
                            "def connect():\n"
                            "  s = socket.create_connection((sys.argv[2], int(sys.argv[1])), 5)\n"
                            "  s.settimeout(0.5)\n"
                            "  try: s.recv(1)\n"
                            "  except TimeoutError: pass\n"
                            "  return s\n"
                            "def say(what, attempt):\n"
                            "  came = 'open'\n"
                            "  try: return attempt()\n"
                            "  except TimeoutError: pass\n"
                            "  except OSError as e: came = e.strerror\n"
                            "  finally: print(f'  inside:  {what}: {came}', flush=True)\n"
                            "s = say('a connection', connect)\n"
                            "input()\n"
                            "if s: say('the same connection', lambda: s.recv(1))\n"
                            "say('another connection', connect)\n";

/* Prints what was denied until the sandbox ends. Returns how many destinations that were. */
static int denials(sbx_queue *queue) {
    char seen[8][sizeof(((sbx_event *)0)->address)];
    int denied = 0, descriptor = sbx_queue_open_fd(queue, &error);
    if (descriptor < 0)
        fail();
    for (int ended = 0; !ended;) {
        sbx_event event = {0};
        int got = sbx_queue_next(queue, &event, &error);
        if (got < 0)
            fail();
        if (got == 0) {
            struct pollfd ready = {descriptor, POLLIN, 0};
            char rings[64];
            poll(&ready, 1, -1);
            /* Its bytes mean nothing, but while any is unread it stays readable and poll doesn't wait. It is
             * non-blocking: reading ends when there is none. */
            while (read(descriptor, rings, sizeof rings) > 0)
                continue;
        } else if (event.kind == SBX_EVENT_DENIED && event.address[0] != '\0') {
            /* A destination that is tried again has a further event a second later. */
            int known = 0;
            for (int i = 0; i < denied; i++)
                known |= strcmp(seen[i], event.address) == 0;
            if (!known && denied < 8) {
                printf("  outside: %s port %u: %s\n", event.address, event.port, event.detail);
                memcpy(seen[denied++], event.address, sizeof event.address);
            }
        } else if (event.kind == SBX_EVENT_EXITED) {
            ended = 1;
        }
    }
    close(descriptor);
    return denied;
}

/* Runs the attempts under a policy, which it frees. */
static int try(const char *what, sbx_policy *policy, const char *address, const char *port) {
    const char *command[] = {"python3", "-c", attempts, port, address, "169.254.169.254", "10.1.2.3"};
    sbx_queue *queue = NULL;
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail();
    sbx_sandbox *sandbox = NULL;
    sbx_capture *capture = NULL;
    sbx_output output = SBX_OUTPUT_INIT;
    if (sbx_queue_new(64, &queue, &error) < 0)
        fail();
    sbx_config_set_command(config, command, 7);
    sbx_config_set_policy(config, policy);
    sbx_config_set_queue(config, queue, 0);
    sbx_config_capture_stream(config, SBX_STDOUT, 4096, 4096);
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail();
    printf("%s\n", what);
    int denied = denials(queue);
    if (sbx_sandbox_capture(sandbox, SBX_STDOUT, &capture, &error) < 0 ||
        sbx_capture_output(capture, &output) < 0)
        fail();
    printf("%.*s", (int)output.head_length, (const char *)output.head);
    sbx_capture_free(capture);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
    sbx_config_free(config);
    sbx_policy_free(policy);
    return denied;
}

/* One end of a stream of the sandbox, to be used like a file. */
static FILE *stream(sbx_sandbox *sandbox, int which, const char *mode) {
    int descriptor = sbx_sandbox_open_fd(sandbox, which, &error);
    if (descriptor < 0)
        fail();
    /* Made for a loop over many descriptors, it doesn't wait; here nothing else is to be done meanwhile. */
    fcntl(descriptor, F_SETFL, 0);
    return fdopen(descriptor, mode);
}

/* Changes the policy of a sandbox from open to nothing while it has a connection. Returns how much was denied. */
static int change(const char *address, const char *port) {
    const char *command[] = {"python3", "-c", visit, port, address};
    char line[256];
    uint64_t generation = 0;
    sbx_queue *queue = NULL;
    sbx_policy *before = new_policy(SBX_POLICY_OPEN), *after = new_policy(SBX_POLICY_ALLOWLIST);
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail();
    sbx_sandbox *sandbox = NULL;
    if (sbx_queue_new(64, &queue, &error) < 0)
        fail();
    sbx_config_set_command(config, command, 5);
    sbx_config_set_policy(config, before);
    sbx_config_set_queue(config, queue, 0);
    sbx_config_set_stream(config, SBX_STDIN, SBX_STREAM_DESCRIPTOR);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail();
    FILE *input = stream(sandbox, SBX_STDIN, "w"), *output = stream(sandbox, SBX_STDOUT, "r");
    printf("a live change\n");
    if (fgets(line, sizeof line, output) != NULL)
        fputs(line, stdout);

    /* When this returns, nothing that it doesn't allow leaves any more, on old connections neither. */
    if (sbx_set_policy(sandbox, after, &generation, &error) < 0)
        fail();
    printf("  outside: generation %" PRIu64 " of the policy is in force\n", generation);

    fputs("\n", input);
    fclose(input);
    int denied = denials(queue);
    while (fgets(line, sizeof line, output) != NULL)
        fputs(line, stdout);
    fclose(output);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
    sbx_config_free(config);
    sbx_policy_free(before);
    sbx_policy_free(after);
    return denied;
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "1.1.1.1";
    const char *port = argc > 2 ? argv[2] : "443";

    /* Any public address, and nothing of the host or its networks. Without a policy it is this one. */
    int open = try("open", new_policy(SBX_POLICY_OPEN), address, port);

    /* Only what is named. A private range is opened by an entry that lies in it; one entry is denied again. */
    sbx_policy *policy = new_policy(SBX_POLICY_ALLOWLIST);
    sbx_policy_allow_cidr(policy, "10.1.0.0/16");
    sbx_policy_deny_cidr(policy, "10.1.2.0/24");
    int listed = try("allowlist", policy, address, port);

    /* No network at all: there is nothing that could be denied. */
    int blocked = try("blocked", new_policy(SBX_POLICY_BLOCKED), address, port);

    /* A policy can be changed at any time. */
    int changed = change(address, port);
    return open == 2 && listed == 3 && blocked == 0 && changed > 0 ? 0 : 1;
}
