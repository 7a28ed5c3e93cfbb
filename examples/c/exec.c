/*
 * Programs in a running sandbox: one whose output is streamed, and a shell on a terminal.
 *
 *   cc -std=c99 -Iinclude examples/c/exec.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o exec
 *   ./exec          shows both
 *   ./exec shell    a shell of your own; its end is yours
 */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE

#include <fcntl.h>
#include <poll.h>
#include <sbx.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static void fail(const sbx_error *error) {
    fprintf(stderr, "error %d: %s\n", error->code, error->message);
    exit(1);
}

/* The descriptors that libsbx gives out are non-blocking; here they may block. */
static int blocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

/* Waits for a program's end and says how it was. */
static int end_of(sbx_process *process) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_exit ended = SBX_EXIT_INIT;
    if (sbx_process_wait(process, -1, &ended, &error) < 0)
        fail(&error);
    sbx_process_free(process);
    return ended.code;
}

/* Runs a program, prints what it says as it says it, and keeps its errors for later. */
static int stream(sbx_sandbox *sandbox) {
    const char *argv[] = {"sh", "-c", "for i in 1 2 3; do echo line $i; done; echo $GREETING >&2; exit 3"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_process *process = NULL;
    sbx_exec_config *config = NULL;
    if (sbx_exec_config_new(&config, &error) < 0)
        fail(&error);
    sbx_exec_config_set_command(config, argv, 3);
    sbx_exec_config_set_secret(config, "GREETING", "said on the other stream");
    sbx_exec_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    sbx_exec_config_capture_stream(config, SBX_STDERR, 65536, 65536);
    sbx_exec_config_set_timeout_ms(config, 10000);
    if (sbx_exec(sandbox, config, &process, &error) < 0)
        fail(&error);
    sbx_exec_config_free(config);

    int out = sbx_process_open_fd(process, SBX_STDOUT, &error);
    if (out < 0)
        fail(&error);
    FILE *lines = fdopen(blocking(out), "r");
    char line[256];
    while (fgets(line, sizeof line, lines) != NULL)
        printf("out: %s", line);
    fclose(lines);

    /* What was written before the end is in the capture when the end is told. */
    if (sbx_process_wait(process, -1, NULL, &error) < 0)
        fail(&error);
    sbx_capture *capture = NULL;
    sbx_output output = SBX_OUTPUT_INIT;
    if (sbx_process_capture(process, SBX_STDERR, &capture, &error) < 0 || sbx_capture_output(capture, &output) < 0)
        fail(&error);
    printf("err: %.*s", (int)output.head_length, (const char *)output.head);
    sbx_capture_free(capture);
    return end_of(process);
}

/* A shell on a terminal of that size. Returns its terminal. */
static int start_shell(sbx_sandbox *sandbox, unsigned rows, unsigned columns, sbx_process **process) {
    const char *argv[] = {"sh", "-i"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_exec_config *config = NULL;
    if (sbx_exec_config_new(&config, &error) < 0)
        fail(&error);
    sbx_exec_config_set_command(config, argv, 2);
    sbx_exec_config_set_env(config, "PS1", "sandbox$ ");
    sbx_exec_config_set_pty(config, rows, columns);
    if (sbx_exec(sandbox, config, process, &error) < 0)
        fail(&error);
    sbx_exec_config_free(config);
    int terminal = sbx_process_open_fd(*process, SBX_TERMINAL, &error);
    if (terminal < 0)
        fail(&error);
    return blocking(terminal);
}

/* Prints what the terminal shows until a text comes, or to its end for NULL. */
static void show(int terminal, const char *until) {
    char seen[8192];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof seen - 1 && (got = read(terminal, seen + length, sizeof seen - 1 - length)) > 0) {
        fwrite(seen + length, 1, (size_t)got, stdout);
        length += (size_t)got;
        seen[length] = 0;
        if (until != NULL && strstr(seen, until) != NULL)
            return;
    }
    if (until != NULL) {
        fprintf(stderr, "the terminal ended before \"%s\"\n", until);
        exit(1);
    }
}

static void type(int terminal, const char *text) {
    send(terminal, text, strlen(text), MSG_NOSIGNAL);
}

/* A session as a person would have it. */
static int session(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_process *process = NULL;
    int terminal = start_shell(sandbox, 24, 80, &process);
    show(terminal, "sandbox$ ");
    type(terminal, "stty size\n");
    show(terminal, "24 80\r\nsandbox$ ");
    if (sbx_process_resize(process, 50, 132, &error) < 0)
        fail(&error);
    /* What is typed may overtake the new size. */
    type(terminal, "until stty size | grep '50 132'; do sleep 0.1; done\n");
    show(terminal, "50 132\r\nsandbox$ ");
    type(terminal, "exit 4\n");
    show(terminal, NULL);
    close(terminal);
    return end_of(process);
}

static volatile sig_atomic_t resized;

static void on_resize(int signal) {
    (void)signal;
    resized = 1;
}

/* The caller's own terminal, joined to a shell's. */
static int interactive(sbx_sandbox *sandbox) {
    struct winsize size = {24, 80, 0, 0};
    struct termios before, raw;
    sbx_process *process = NULL;
    ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
    int terminal = start_shell(sandbox, size.ws_row, size.ws_col, &process);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_resize;
    sigaction(SIGWINCH, &action, NULL);
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        fprintf(stderr, "standard input is not a terminal\n");
        exit(1);
    }
    raw = before;
    cfmakeraw(&raw);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {terminal, POLLIN, 0}};
    for (;;) {
        char buffer[4096];
        int ready = poll(fds, 2, -1);
        if (resized) {
            resized = 0;
            ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
            sbx_process_resize(process, size.ws_row, size.ws_col, NULL);
        }
        if (ready < 0)
            continue;
        for (int side = 0; side < 2; side++) {
            if (fds[side].revents == 0)
                continue;
            ssize_t got = read(fds[side].fd, buffer, sizeof buffer);
            if (got <= 0)
                goto over;
            if (side == 0)
                send(terminal, buffer, (size_t)got, MSG_NOSIGNAL);
            else
                fwrite(buffer, 1, (size_t)got, stdout), fflush(stdout);
        }
    }
over:
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    close(terminal);
    return end_of(process);
}

int main(int argc, char **argv) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_sandbox *sandbox = NULL;
    sbx_config *config = NULL; /* no command: it waits for what is executed */
    if (sbx_config_new(&config, &error) < 0)
        fail(&error);
    sbx_config_set_idle_timeout_ms(config, 60000);
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail(&error);
    sbx_config_free(config);

    int code = 0;
    if (argc > 1 && strcmp(argv[1], "shell") == 0) {
        code = interactive(sandbox);
    } else {
        int first = stream(sandbox);
        printf("it ended with %d\n", first);
        int second = session(sandbox);
        printf("the shell ended with %d\n", second);
        code = first == 3 && second == 4 ? 0 : 1;
    }
    sbx_sandbox_free(sandbox);
    return code;
}
