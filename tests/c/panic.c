/* A panic in the library is SBX_EPANIC, a line in the log, and nothing on stderr. Feature test-hooks. */
#include "check.h"
#include <sys/socket.h>
#include <unistd.h>

int sbx_test_panic(sbx_error *error);

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    int pair[2];
    char log[512] = {0};
    CHECK(sbx_test_panic(NULL) == SBX_EPANIC);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(sbx_log_set_fd(pair[1], 1) == 0);
    CHECK(sbx_test_panic(&error) == SBX_EPANIC && strstr(error.message, "injected") != NULL);
    CHECK(read(pair[0], log, sizeof log - 1) > 0 && strstr(log, "injected") != NULL);
    CHECK(sbx_log_set_fd(-1, 0) == 0);
    return 0;
}
