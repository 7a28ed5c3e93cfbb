/* The log's descriptor: copied, checked, and no signal from a dead reader; the mask stays. */
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    int pipes[2], pair[2];
    sigset_t before, after;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &before) == 0);
    CHECK(sbx_log_set_fd(999, 3) == SBX_ESYSTEM);
    CHECK(sbx_log_set_fd(2, 6) == SBX_EINVALID);
    CHECK(sbx_log_set_fd(2, -1) == SBX_EINVALID);
    CHECK(sbx_log_set_fd(-1, 3) == 0);
    CHECK(pipe(pipes) == 0);
    CHECK(sbx_log_set_fd(pipes[1], 5) == 0);
    CHECK((fcntl(pipes[1], F_GETFL) & O_NONBLOCK) == 0); /* the host's own stays as it is */
    CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(sbx_log_set_fd(pair[1], 5) == 0);
    CHECK(close(pair[1]) == 0);
    CHECK(sbx_log_set_fd(-1, 0) == 0);
    char byte;
    CHECK(read(pair[0], &byte, 1) == 0); /* its copy was closed */
    CHECK(sigprocmask(SIG_BLOCK, NULL, &after) == 0);
    for (int i = 1; i < 65; i++)
        CHECK(sigismember(&before, i) == sigismember(&after, i));
    return 0;
}
