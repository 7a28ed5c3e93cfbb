/* What is begun, waited for, cancelled and freed in one way: connections, policies, statistics, checks. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void without_a_sandbox(sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_policy *policy = NULL, *copy = NULL;
    sbx_stats stats = SBX_STATS_INIT;
    sbx_report *report = NULL;
    uint64_t generation = 7;
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &policy, &error) == 0);
    CHECK(sbx_connect_begin(NULL, 80, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_set_policy_begin(NULL, policy, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_policy_begin(NULL, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_stats_begin(NULL, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_snapshot_begin(NULL, NULL, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_snapshot_directory_begin(NULL, "/a", NULL, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_copy_image_begin(NULL, NULL, "/a", queue, 1, &operation, &error) == SBX_EHANDLE);
    sbx_image *image = NULL;
    CHECK(sbx_sandbox_exit_image(NULL, &image, &error) == SBX_EHANDLE && image == NULL);
    CHECK(sbx_sandbox_stats_begin((sbx_sandbox *)policy, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_check_begin(NULL, (sbx_queue *)policy, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_check_begin(NULL, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(operation == NULL);
    CHECK(sbx_operation_policy(NULL, &copy, &generation, &error) == SBX_EHANDLE && copy == NULL && generation == 7);
    CHECK(sbx_operation_stats(NULL, &stats, &error) == SBX_EHANDLE);
    CHECK(sbx_operation_report(NULL, &report, &error) == SBX_EHANDLE && report == NULL);
    sbx_policy_free(policy);
}

/* Takes the next event of that kind. */
static sbx_event next(sbx_queue *queue, int bell, uint32_t kind) {
    sbx_event event = SBX_EVENT_INIT;
    for (;;) {
        while (sbx_queue_next(queue, &event, NULL) == 1)
            if (event.kind == kind)
                return event;
        struct pollfd ready = {.fd = bell, .events = POLLIN};
        char rung[64];
        CHECK(poll(&ready, 1, 30000) == 1 && read(bell, rung, sizeof rung) > 0);
    }
}

static void a_connection(sbx_sandbox *sandbox, sbx_queue *queue, int bell) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    CHECK(sbx_connect_begin(sandbox, 0, queue, 1, &operation, &error) == SBX_EINVALID && operation == NULL);
    CHECK(sbx_connect_begin(sandbox, 8000, queue, 31, &operation, &error) == 0);
    sbx_event event = next(queue, bell, SBX_EVENT_OPERATION_DONE);
    CHECK(event.cookie == 31 && event.code == 0 && sbx_operation_wait(operation, 0, &error) == 0);
    int fd = sbx_operation_open_fd(operation, &error);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(sbx_operation_open_fd(operation, &error) == SBX_ESTATE);
    /* It has no other result. */
    size_t length = 0;
    sbx_stats stats = SBX_STATS_INIT;
    sbx_report *report = NULL;
    CHECK(sbx_operation_bytes(operation, &length) == NULL && sbx_operation_count(operation) == 0);
    CHECK(sbx_operation_stats(operation, &stats, &error) == SBX_EINVALID);
    CHECK(sbx_operation_policy(operation, NULL, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_operation_report(operation, &report, &error) == SBX_EINVALID && report == NULL);
    sbx_operation_free(operation);
    CHECK(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char answer[5] = "";
    CHECK(poll(&ready, 1, 30000) == 1 && read(fd, answer, 4) == 4 && strcmp(answer, "HTTP") == 0);
    CHECK(close(fd) == 0);

    /* Nothing listens there; without a queue the handle tells. */
    CHECK(sbx_connect_begin(sandbox, 1, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 30000, &error) == SBX_EREFUSED);
    CHECK(sbx_operation_open_fd(operation, &error) == SBX_EREFUSED);
    sbx_operation_free(operation);

    /* Given up, however far it is: one event, whichever end came first. */
    for (uint64_t cookie = 100; cookie < 164; cookie++) {
        CHECK(sbx_connect_begin(sandbox, 8000, queue, cookie, &operation, &error) == 0);
        if (cookie % 2 == 0)
            CHECK(sbx_operation_cancel(operation, &error) == 0);
        sbx_operation_free(operation);
        event = next(queue, bell, SBX_EVENT_OPERATION_DONE);
        CHECK(event.cookie == cookie && (event.code == 0 || event.code == SBX_ECLOSED));
    }
}

static void a_policy(sbx_sandbox *sandbox, sbx_queue *queue, int bell) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *change = NULL, *read_back = NULL;
    sbx_policy *policy = NULL, *copy = NULL;
    uint64_t generation = 0;
    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, &error) == 0);
    CHECK(sbx_policy_allow_cidr(policy, "203.0.113.0/24") == 0);
    /* Freed or cancelled, it is made all the same. */
    CHECK(sbx_set_policy_begin(sandbox, policy, queue, 41, &change, &error) == 0);
    CHECK(sbx_operation_cancel(change, &error) == 0);
    sbx_operation_free(change);
    sbx_event event = next(queue, bell, SBX_EVENT_POLICY_APPLIED);
    CHECK(event.cookie == 41 && event.code == 0 && event.value[0] == 1 && event.count == 1);
    CHECK(sbx_set_policy_begin(sandbox, policy, NULL, 0, &change, &error) == 0);
    CHECK(sbx_operation_wait(change, 30000, &error) == 0);
    CHECK(sbx_operation_policy(change, &copy, &generation, &error) == SBX_EINVALID && copy == NULL);
    CHECK(sbx_operation_policy(change, NULL, &generation, &error) == 0 && generation == 2);
    sbx_operation_free(change);

    CHECK(sbx_sandbox_policy_begin(sandbox, queue, 42, &read_back, &error) == 0);
    event = next(queue, bell, SBX_EVENT_OPERATION_DONE);
    CHECK(event.cookie == 42 && event.code == 0);
    CHECK(sbx_operation_policy(read_back, &copy, &generation, &error) == 0 && generation == 2);
    CHECK(strcmp(sbx_policy_entry(copy, 0), "allow 203.0.113.0/24") == 0);
    sbx_operation_free(read_back);
    sbx_policy_free(copy);
    sbx_policy_free(policy);
}

static void statistics(sbx_sandbox *sandbox, sbx_queue *queue, int bell) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_stats stats = SBX_STATS_INIT;
    /* It was not started from an image. */
    CHECK(sbx_sandbox_snapshot_begin(sandbox, "a:1", queue, 50, &operation, &error) == SBX_EUNSUPPORTED);
    CHECK(operation == NULL && strstr(error.message, "image") != NULL);
    /* A directory can be stored on any root; an image has to be one. */
    sbx_image *image = NULL;
    CHECK(sbx_sandbox_exit_image(sandbox, &image, &error) == SBX_ENOTFOUND && image == NULL);
    CHECK(sbx_sandbox_exit_image(sandbox, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_sandbox_snapshot_directory_begin(sandbox, NULL, NULL, queue, 50, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_sandbox_snapshot_directory_begin(sandbox, "tmp", NULL, queue, 50, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_sandbox_snapshot_directory_begin(sandbox, "/tmp", "A B", queue, 50, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_sandbox_copy_image_begin(sandbox, NULL, "/tmp/a", queue, 50, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_sandbox_copy_image_begin(sandbox, (sbx_image *)queue, "/a", queue, 50, &operation, &error) == SBX_EHANDLE);
    CHECK(operation == NULL);
    CHECK(sbx_sandbox_stats_begin(sandbox, queue, 51, &operation, &error) == 0);
    CHECK(next(queue, bell, SBX_EVENT_OPERATION_DONE).cookie == 51);
    CHECK(sbx_operation_stats(operation, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_operation_stats(operation, &stats, &error) == 0);
    CHECK((stats.known & SBX_STATS_PROCESSES) != 0 && stats.processes >= 1 && stats.uptime_ms > 0);
    stats.size = 8;
    CHECK(sbx_operation_stats(operation, &stats, &error) == SBX_ESIZE);
    sbx_operation_free(operation);
    /* Many at once have one answer. */
    sbx_operation *many[100];
    for (int i = 0; i < 100; i++)
        CHECK(sbx_sandbox_stats_begin(sandbox, NULL, 0, &many[i], &error) == 0);
    for (int i = 0; i < 100; i++) {
        CHECK(sbx_operation_wait(many[i], 30000, &error) == 0);
        sbx_operation_free(many[i]);
    }
}

static void after_the_end(sbx_sandbox *sandbox, sbx_queue *queue, int bell) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_policy *policy = NULL;
    sbx_stats stats = SBX_STATS_INIT;
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &policy, &error) == 0);
    CHECK(sbx_connect_begin(sandbox, 8000, queue, 61, &operation, &error) == SBX_ESTATE);
    CHECK(sbx_set_policy_begin(sandbox, policy, queue, 62, &operation, &error) == SBX_ESTATE);
    CHECK(sbx_sandbox_policy_begin(sandbox, queue, 63, &operation, &error) == SBX_ESTATE && operation == NULL);
    /* Those that failed at once have no event; what it had used in all is known. */
    CHECK(sbx_sandbox_stats_begin(sandbox, queue, 64, &operation, &error) == 0);
    sbx_event event = SBX_EVENT_INIT;
    do
        event = next(queue, bell, SBX_EVENT_OPERATION_DONE);
    while (event.cookie < 61);
    CHECK(event.cookie == 64 && sbx_queue_next(queue, &event, &error) == 0);
    CHECK(sbx_operation_stats(operation, &stats, &error) == 0 && stats.uptime_ms > 0);
    sbx_operation_free(operation);
    sbx_policy_free(policy);
}

int main(void) {
    static const char *const server[] = {"python3", "-m", "http.server", "8000"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_queue *queue = NULL;
    CHECK(sbx_queue_new(16, &queue, &error) == 0);
    without_a_sandbox(queue);
    if (getenv("SBX_RUNSC") == NULL) {
        sbx_queue_free(queue);
        return 0;
    }
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, &error) == 0);
    sbx_sandbox *sandbox = NULL;
    int bell = sbx_queue_open_fd(queue, &error);
    CHECK(bell >= 0 && sbx_config_set_queue(config, queue, 1) == 0);
    CHECK(sbx_config_set_command(config, server, 4) == 0 && sbx_config_set_tcp_probe(config, 8000, 50) == 0);
    CHECK(sbx_create(NULL, config, &sandbox, &error) == 0 && sbx_wait_ready(sandbox, 60000, &error) == 0);
    sbx_config_free(config);
    a_connection(sandbox, queue, bell);
    a_policy(sandbox, queue, bell);
    statistics(sandbox, queue, bell);
    /* Begun before the end, it ends, too, one way or the other. */
    sbx_operation *late = NULL, *later = NULL;
    CHECK(sbx_terminate(sandbox, &error) == 0);
    int code = sbx_connect_begin(sandbox, 8000, NULL, 0, &late, &error);
    CHECK(code == 0 || code == SBX_ESTATE);
    code = sbx_sandbox_policy_begin(sandbox, NULL, 0, &later, &error);
    CHECK(code == 0 || code == SBX_ESTATE);
    CHECK(sbx_wait(sandbox, 30000, NULL, &error) == 0);
    CHECK(late == NULL || sbx_operation_wait(late, 30000, &error) != SBX_ETIMEDOUT);
    CHECK(later == NULL || sbx_operation_wait(later, 30000, &error) != SBX_ETIMEDOUT);
    sbx_operation_free(late);
    sbx_operation_free(later);
    after_the_end(sandbox, queue, bell);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
    CHECK(close(bell) == 0);
    return 0;
}
