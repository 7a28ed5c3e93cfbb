/* Descriptors that are on their way between any processes of a user are counted together (unix(7), ETOOMANYREFS). While
 * there are too many, a program that is to be executed waits, and nothing is lost. */
#include "self.h"

enum { LIMIT = 400, MESSAGE = 200 };

/* Puts more of them on their way than there may be. */
static void crowd(int to) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MESSAGE * sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec bytes = {&byte, 1};
    struct msghdr message = {0};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(MESSAGE * sizeof(int));
    /* Descriptor 0, again and again: each counts. Whoever has CAP_SYS_RESOURCE is not held back. */
    for (int i = 0; i <= LIMIT / MESSAGE; i++)
        if (sendmsg(to, &message, 0) < 0)
            CHECK(errno == ETOOMANYREFS);
}

int main(void) {
    static const char *const command[] = {"true"};
    struct rlimit limit;
    sbx_sandbox *sandbox = NULL;
    sbx_process *process = NULL;
    sbx_exit ended = SBX_EXIT_INIT;
    int pair[2];
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = LIMIT;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_exec_config *exec = NULL;
    CHECK(sbx_exec_config_new(&exec, NULL) == 0);
    CHECK(sbx_exec_config_set_command(exec, command, 1) == 0);
    CHECK(sbx_exec_config_set_stream(exec, SBX_STDOUT, SBX_STREAM_DESCRIPTOR) == 0);
    OK(sbx_create(NULL, config, &sandbox, &error));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
    crowd(pair[0]);
    OK(sbx_exec_begin(sandbox, exec, &process, &error));
    /* Nobody loses the sandbox by it. */
    nap(50000);
    CHECK(sbx_sandbox_state(sandbox) == SBX_STATE_RUNNING);
    close(pair[0]);
    close(pair[1]);
    OK(sbx_process_wait(process, PATIENCE, &ended, &error));
    CHECK(ended.reason == SBX_EXIT_EXITED && ended.code == 0);
    sbx_process_free(process);
    sbx_exec_config_free(exec);
    sbx_config_free(config);
    sbx_sandbox_free(sandbox);
    return 0;
}
