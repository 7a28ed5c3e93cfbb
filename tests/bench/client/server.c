/*
 * The server inside the sandbox, linked statically so that any root file system will do.
 *
 *   server KIND:PORT ...     serve
 *   server byte              write one byte to standard output and stay (for start and terminate)
 *   server once              the same and end
 *   server fill:MIB          write so much to files of /filled, none of it zeros (for snapshots)
 *
 * Kinds:
 *   sink     8 bytes of length (little endian), so many bytes in; one byte back; and again
 *   source   8 bytes of length in; so many bytes back; and again
 *   echo     every byte back, a thread a connection: the shortest round trip
 *   hold     every byte back, one epoll loop for all: many connections, most of them idle
 *
 * sink and source count at the far end, so that what is still in somebody's buffer is not taken for carried.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common.h"

enum { BUFFER = 256 * 1024, STACK = 128 * 1024, EVENTS = 256 };

static char zeros[BUFFER];

static int listen_on(long port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind 0.0.0.0:%ld", port);
    if (listen(fd, 4096) < 0)
        die("listen on port %ld", port);
    return fd;
}

static void undelayed(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void serve_sink(int fd)
{
    char *buffer = malloc(BUFFER);
    uint64_t left;
    while (buffer != NULL && read_all(fd, &left, sizeof left) == 0) {
        while (left > 0) {
            ssize_t done = read(fd, buffer, left < BUFFER ? left : BUFFER);
            if (done <= 0)
                goto out;
            left -= (uint64_t)done;
        }
        if (write_all(fd, "k", 1) < 0)
            break;
    }
out:
    free(buffer);
}

static void serve_source(int fd)
{
    uint64_t left;
    while (read_all(fd, &left, sizeof left) == 0) {
        while (left > 0) {
            size_t part = left < BUFFER ? left : BUFFER;
            if (write_all(fd, zeros, part) < 0)
                return;
            left -= part;
        }
    }
}

static void serve_echo(int fd)
{
    char buffer[4096];
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        if (write_all(fd, buffer, (size_t)got) < 0)
            return;
}

struct listener {
    long port;
    int fd;
    void (*serve)(int fd);
};

struct connection {
    int fd;
    void (*serve)(int fd);
};

static void *connection_thread(void *argument)
{
    struct connection connection = *(struct connection *)argument;
    free(argument);
    undelayed(connection.fd);
    connection.serve(connection.fd);
    close(connection.fd);
    return NULL;
}

static void start_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    errno = pthread_create(&thread, &attributes, run, argument);
    if (errno != 0)
        die("pthread_create");
    pthread_attr_destroy(&attributes);
}

static void *accept_thread(void *argument)
{
    struct listener *listener = argument;
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        struct connection *connection = malloc(sizeof *connection);
        if (connection == NULL)
            die("malloc");
        *connection = (struct connection){fd, listener->serve};
        start_thread(connection_thread, connection);
    }
    return NULL;
}

static void *hold_thread(void *argument)
{
    struct listener *listener = argument;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener->fd}, events[EVENTS];
    int queue = epoll_create1(EPOLL_CLOEXEC);
    if (queue < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, listener->fd, &event) < 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(queue, events, EVENTS, -1);
        for (int index = 0; index < count; index++) {
            int fd = events[index].data.fd;
            char buffer[256];
            if (fd == listener->fd) {
                fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                undelayed(fd);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event) < 0)
                    close(fd);
                continue;
            }
            ssize_t got = read(fd, buffer, sizeof buffer);
            if (got <= 0 || write_all(fd, buffer, (size_t)got) < 0)
                close(fd);
        }
    }
    return NULL;
}

static void fill(long mib)
{
    static char block[1 << 20];
    uint64_t state = 88172645463325252;
    char path[64];
    for (size_t at = 0; at < sizeof block; at += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(block + at, &state, sizeof state);
    }
    if (mkdir("/filled", 0755) < 0)
        die("/filled can't be made");
    for (long file = 0; file * 16 < mib; file++) {
        snprintf(path, sizeof path, "/filled/%ld", file);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        for (long part = 0; part < 16 && file * 16 + part < mib; part++)
            if (fd < 0 || write_all(fd, block, sizeof block) < 0)
                die("%s can't be written", path);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strncmp(argv[1], "fill:", 5) == 0) {
        fill(number(argv[1] + 5, 1, 4096));
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "byte") == 0 || strcmp(argv[1], "once") == 0)) {
        if (write_all(STDOUT_FILENO, "k", 1) < 0)
            die("write to standard output");
        while (strcmp(argv[1], "byte") == 0)
            pause();
        return 0;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (argc < 2) {
        fprintf(stderr, "usage: server byte | once | fill:MIB | KIND:PORT ... (kinds: sink source echo hold)\n");
        return 2;
    }
    for (int index = 1; index < argc; index++) {
        char *colon = strchr(argv[index], ':');
        struct listener *listener = calloc(1, sizeof *listener);
        if (colon == NULL || listener == NULL) {
            fprintf(stderr, "\"%s\" is not KIND:PORT\n", argv[index]);
            return 2;
        }
        *colon = '\0';
        listener->port = number(colon + 1, 1, 65535);
        if (strcmp(argv[index], "sink") == 0)
            listener->serve = serve_sink;
        else if (strcmp(argv[index], "source") == 0)
            listener->serve = serve_source;
        else if (strcmp(argv[index], "echo") == 0)
            listener->serve = serve_echo;
        else if (strcmp(argv[index], "hold") != 0) {
            fprintf(stderr, "\"%s\" is none of sink, source, echo, hold\n", argv[index]);
            return 2;
        }
        listener->fd = listen_on(listener->port);
        start_thread(listener->serve == NULL ? hold_thread : accept_thread, listener);
    }
    if (write_all(STDOUT_FILENO, "ready\n", 6) < 0)
        die("write to standard output");
    for (;;)
        pause();
}
