/* The doorbell is the host's, and ends with the queue. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_queue *queue = NULL;
    char byte;
    CHECK(sbx_queue_new(0, &queue, &error) == SBX_EINVALID && queue == NULL);
    CHECK(sbx_queue_new(65537, &queue, &error) == SBX_EINVALID && queue == NULL);
    CHECK(sbx_queue_new(16, &queue, &error) == 0 && queue != NULL);
    int bell = sbx_queue_open_fd(queue, &error);
    CHECK(bell >= 0);
    int type = 0, domain = 0;
    socklen_t length = sizeof type;
    CHECK(getsockopt(bell, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM);
    CHECK(getsockopt(bell, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX);
    CHECK((fcntl(bell, F_GETFD) & FD_CLOEXEC) && (fcntl(bell, F_GETFL) & O_NONBLOCK));
    CHECK(read(bell, &byte, 1) == -1 && errno == EAGAIN);

    sbx_event event = SBX_EVENT_INIT;
    CHECK(sbx_queue_next(queue, &event, &error) == 0);
    CHECK(sbx_queue_next(queue, NULL, &error) == SBX_EINVALID);
    event.size = 8;
    CHECK(sbx_queue_next(queue, &event, &error) == SBX_ESIZE);
    event.size = 0;
    CHECK(sbx_queue_next(queue, &event, &error) == 0);

    int second = sbx_queue_open_fd(queue, &error);
    CHECK(second >= 0 && read(bell, &byte, 1) == 0);
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_queue(config, queue, 42) == 0);
    sbx_queue_free(queue);
    CHECK(read(second, &byte, 1) == 0);
    CHECK(sbx_queue_next(queue, &event, &error) == SBX_EHANDLE);
    CHECK(sbx_config_set_queue(config, queue, 42) == SBX_EHANDLE);
    sbx_config_free(config);
    CHECK(close(bell) == 0 && close(second) == 0);
    return 0;
}
