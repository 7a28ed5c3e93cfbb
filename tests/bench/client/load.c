/*
 * The load client: one measurement, one number on standard output.
 *
 *   load [--tls] [--in PID] MODE ADDRESS:PORT COUNT AMOUNT
 *   load --lines               the four words from each line of standard input, until that ends
 *
 *   up        COUNT connections, AMOUNT milliseconds, to a sink        Gbit/s
 *   down      the same, from a source                                  Gbit/s
 *   rtt       COUNT connections, AMOUNT round trips each of one byte   median in microseconds
 *   rtt99     the same                                                 99th percentile in microseconds
 *   denied    COUNT threads, AMOUNT attempts each at what refuses      median in microseconds
 *   connects  COUNT threads, AMOUNT connections altogether, each       connections (with --tls
 *             carrying one byte there and back                         handshakes) a second
 *   idle      COUNT connections, one byte there and back on each, then "ready"; they stay until
 *             standard input ends (AMOUNT is 0)
 *
 * --in PID runs it in that process's network namespace: straight to the sandbox, past every proxy.
 * --tls speaks TLS 1.3, with one suite and one group, so that all peers do the same cryptography. The certificate's
 * signature over the handshake is checked, its chain isn't: that costs only the client.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "namespace.h"

enum { BUFFER = 256 * 1024, WORKERS = 64 };
static const uint64_t PIECE = 16 << 20;

static struct sockaddr_in target;
static SSL_CTX *tls;
static char zeros[BUFFER];

struct link {
    int fd;
    SSL *ssl;
};

struct worker {
    pthread_t thread;
    void (*run)(struct worker *);
    long amount;
    uint64_t bytes;
    int64_t *samples;
};

static pthread_barrier_t start;

static void link_open(struct link *link)
{
    int one = 1;
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        die("socket");
    if (connect(link->fd, (struct sockaddr *)&target, sizeof target) < 0)
        die("connect to port %d", ntohs(target.sin_port));
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    link->ssl = NULL;
    if (tls == NULL)
        return;
    link->ssl = SSL_new(tls);
    if (link->ssl == NULL || SSL_set_fd(link->ssl, link->fd) != 1 || SSL_connect(link->ssl) != 1)
        die("TLS handshake with port %d", ntohs(target.sin_port));
}

static void link_close(struct link *link)
{
    if (link->ssl != NULL) {
        SSL_shutdown(link->ssl);
        SSL_free(link->ssl);
    }
    close(link->fd);
}

static void link_write(struct link *link, const void *data, size_t length)
{
    if (link->ssl == NULL ? write_all(link->fd, data, length) < 0
                          : SSL_write(link->ssl, data, (int)length) != (int)length)
        die("write to port %d", ntohs(target.sin_port));
}

/* How much was read, at least one byte: the server never ends a connection first. */
static size_t link_read(struct link *link, void *data, size_t length)
{
    ssize_t got = link->ssl == NULL ? read(link->fd, data, length) : SSL_read(link->ssl, data, (int)length);
    if (got <= 0)
        die("read from port %d: %zd", ntohs(target.sin_port), got);
    return (size_t)got;
}

static void run_up(struct worker *worker)
{
    struct link link;
    uint64_t pieces = 0;
    link_open(&link);
    pthread_barrier_wait(&start);
    int64_t end = now_ns() + worker->amount * 1000000;
    do {
        link_write(&link, &PIECE, sizeof PIECE);
        for (uint64_t left = PIECE; left > 0; left -= BUFFER)
            link_write(&link, zeros, BUFFER);
        pieces++;
    } while (now_ns() < end);
    worker->bytes = pieces * PIECE;
    for (char byte; pieces > 0; pieces--)
        link_read(&link, &byte, 1);
    pthread_barrier_wait(&start);
    link_close(&link);
}

static void run_down(struct worker *worker)
{
    struct link link;
    char *buffer = malloc(BUFFER);
    link_open(&link);
    if (buffer == NULL)
        die("malloc");
    pthread_barrier_wait(&start);
    int64_t end = now_ns() + worker->amount * 1000000;
    /* Two pieces are always asked for, so that the source never waits for us. */
    link_write(&link, &PIECE, sizeof PIECE);
    for (bool last = false; !last;) {
        last = now_ns() >= end;
        if (!last)
            link_write(&link, &PIECE, sizeof PIECE);
        uint64_t left = PIECE;
        while (left > 0)
            left -= link_read(&link, buffer, left < BUFFER ? left : BUFFER);
        worker->bytes += PIECE;
    }
    pthread_barrier_wait(&start);
    free(buffer);
    link_close(&link);
}

static void run_rtt(struct worker *worker)
{
    struct link link;
    char byte = 'k';
    link_open(&link);
    pthread_barrier_wait(&start);
    for (long index = 0; index < worker->amount; index++) {
        int64_t before = now_ns();
        link_write(&link, &byte, 1);
        link_read(&link, &byte, 1);
        worker->samples[index] = now_ns() - before;
    }
    pthread_barrier_wait(&start);
    link_close(&link);
}

static void run_connects(struct worker *worker)
{
    pthread_barrier_wait(&start);
    for (long index = 0; index < worker->amount; index++) {
        struct link link;
        char byte = 'k';
        link_open(&link);
        link_write(&link, &byte, 1);
        link_read(&link, &byte, 1);
        link_close(&link);
    }
    pthread_barrier_wait(&start);
}

/* A refusal may come from connect() or, where a relay has taken the connection, from the first read. */
static void run_denied(struct worker *worker)
{
    pthread_barrier_wait(&start);
    for (long index = 0; index < worker->amount; index++) {
        char byte;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int64_t before = now_ns();
        if (fd < 0)
            die("socket");
        if (connect(fd, (struct sockaddr *)&target, sizeof target) == 0 && read(fd, &byte, 1) >= 0)
            die("port %d doesn't refuse", ntohs(target.sin_port));
        worker->samples[index] = now_ns() - before;
        close(fd);
    }
    pthread_barrier_wait(&start);
}

static void *worker_thread(void *argument)
{
    struct worker *worker = argument;
    worker->run(worker);
    return NULL;
}

/* The workers begin together once all are connected; the nanoseconds until the last one is done. */
static int64_t run_workers(struct worker *workers, long count)
{
    pthread_barrier_init(&start, NULL, (unsigned)count + 1);
    for (long index = 0; index < count; index++) {
        errno = pthread_create(&workers[index].thread, NULL, worker_thread, &workers[index]);
        if (errno != 0)
            die("pthread_create");
    }
    pthread_barrier_wait(&start);
    int64_t begin = now_ns();
    pthread_barrier_wait(&start);
    int64_t took = now_ns() - begin;
    for (long index = 0; index < count; index++)
        pthread_join(workers[index].thread, NULL);
    return took;
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void hold_idle(long count)
{
    struct link *links = calloc((size_t)count, sizeof *links);
    if (links == NULL)
        die("calloc");
    for (long index = 0; index < count; index++) {
        char byte = 'k';
        link_open(&links[index]);
        link_write(&links[index], &byte, 1);
        link_read(&links[index], &byte, 1);
    }
    alarm(0);
    printf("ready\n");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    for (long index = 0; index < count; index++)
        link_close(&links[index]);
    free(links);
}

static void set_up_tls(void)
{
    tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(tls, "X25519") != 1)
        die("TLS set-up");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(tls, SSL_MODE_AUTO_RETRY);
}

static int usage(void)
{
    fprintf(stderr, "usage: load [--tls] [--in PID] up|down|rtt|rtt99|denied|connects|idle ADDRESS:PORT COUNT AMOUNT\n"
                    "       load --lines\n");
    return 2;
}

static int one(int argc, char **argv);

/* A process each: what one leaves behind doesn't slow the next. */
static int lines(void)
{
    char line[256], *words[6];
    while (fgets(line, sizeof line, stdin) != NULL) {
        int count = 1, status;
        words[0] = "load";
        for (char *word = strtok(line, " \n"); word != NULL && count < 5; word = strtok(NULL, " \n"))
            words[count++] = word;
        words[count] = NULL;
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            int result = one(count, words);
            fflush(stdout);
            _exit(result);
        }
        if (waitpid(child, &status, 0) < 0)
            die("waitpid");
        if (status != 0) {
            printf("failed\n");
            fflush(stdout);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    return argc == 2 && strcmp(argv[1], "--lines") == 0 ? lines() : one(argc, argv);
}

static int one(int argc, char **argv)
{
    int index = 1;
    bool encrypted = false;
    for (; index < argc && strncmp(argv[index], "--", 2) == 0; index++) {
        if (strcmp(argv[index], "--tls") == 0)
            encrypted = true;
        else if (strcmp(argv[index], "--in") == 0 && index + 1 < argc)
            enter_network_of(number(argv[++index], 1, 1L << 30));
        else
            return usage();
    }
    if (argc - index != 4)
        return usage();
    const char *mode = argv[index];
    char *colon = strchr(argv[index + 1], ':');
    if (colon == NULL)
        return usage();
    *colon = '\0';
    target.sin_family = AF_INET;
    target.sin_port = htons((uint16_t)number(colon + 1, 1, 65535));
    if (inet_pton(AF_INET, argv[index + 1], &target.sin_addr) != 1)
        return usage();
    bool idle = strcmp(mode, "idle") == 0;
    long count = number(argv[index + 2], 1, idle ? 100000 : WORKERS);
    long amount = number(argv[index + 3], 0, 100000000);

    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    /* Whoever carries nothing any more ends the run by this signal, not never. */
    alarm(300);
    if (encrypted)
        set_up_tls();
    if (idle) {
        hold_idle(count);
        return 0;
    }

    bool tail = strcmp(mode, "rtt99") == 0, denied = strcmp(mode, "denied") == 0;
    bool rtt = strcmp(mode, "rtt") == 0 || tail || denied, connects = strcmp(mode, "connects") == 0;
    void (*run)(struct worker *) = denied                       ? run_denied
                                   : rtt                        ? run_rtt
                                   : connects                   ? run_connects
                                   : strcmp(mode, "up") == 0    ? run_up
                                   : strcmp(mode, "down") == 0  ? run_down
                                                                : NULL;
    if (run == NULL)
        return usage();
    struct worker workers[WORKERS] = {{0}};
    int64_t *samples = rtt ? calloc((size_t)(count * amount), sizeof *samples) : NULL;
    if ((rtt && samples == NULL) || (rtt && amount == 0))
        return usage();
    for (long at = 0; at < count; at++) {
        workers[at].run = run;
        workers[at].amount = connects ? amount / count : amount;
        workers[at].samples = samples == NULL ? NULL : samples + at * amount;
    }
    int64_t took = run_workers(workers, count);
    if (rtt) {
        size_t all = (size_t)(count * amount);
        qsort(samples, all, sizeof *samples, compare);
        printf("%.1f\n", (double)samples[tail ? all - 1 - all / 100 : all / 2] / 1000.0);
    } else if (connects) {
        printf("%.0f\n", (double)(amount / count * count) * 1e9 / (double)took);
    } else {
        uint64_t bytes = 0;
        for (long at = 0; at < count; at++)
            bytes += workers[at].bytes;
        printf("%.3f\n", (double)bytes * 8.0 / (double)took);
    }
    free(samples);
    return 0;
}
