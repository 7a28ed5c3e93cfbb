/*
 * What one sandbox does to its neighbours, an attack a mode; linked statically, so that any root file system will do.
 *
 * Inside the attacking sandbox, each until it is killed:
 *   dns-tcp COUNT              COUNT connections to the sandbox's resolver, each full of 12-byte messages
 *   dns-udp                    the same messages as datagrams
 *   dns-cached COUNT NAME      COUNT connections that ask for the addresses of NAME
 *   connects ADDRESS:PORT COUNT  COUNT threads that connect and close
 *   flows ADDRESS:PORT COUNT   COUNT connections, filled until nothing more goes, kept
 *   udp ADDRESS                a datagram to every port, over and over
 *   denials                    connections and datagrams to addresses that no policy allows
 *   output                     64 KiB after 64 KiB on standard output and standard error
 *   stop-init                  stops the sandbox's init
 *   burn MILLI                 uses so many thousandths of a processor and touches nothing: the control
 *
 * Outside:
 *   connects ADDRESS:PORT COUNT, burn MILLI   as above, at a tunnel
 *   syn PID ADDRESS            SYN packets by AF_PACKET in the network namespace of that process: a compromised sentry
 *
 * What the others need, until it is killed:
 *   deaf PORT                  a server that accepts and never reads
 *   names PORT                 a name server with 64 addresses for every name
 *   probe PORT ADDRESS:PORT    in the victim: for each 8-byte number N that comes, N round trips of a byte with the
 *                              address's echo server; 8 bytes back for each, its nanoseconds
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "namespace.h"

enum { THREADS = 64, BATCH = 2000 };

static struct sockaddr_in target;

static void set_target(char *text)
{
    char *colon = strchr(text, ':');
    target.sin_family = AF_INET;
    if (colon != NULL) {
        *colon = '\0';
        target.sin_port = htons((uint16_t)number(colon + 1, 1, 65535));
    }
    if (inet_pton(AF_INET, text, &target.sin_addr) != 1)
        die("\"%s\" is not an IPv4 address", text);
}

static int connected(const struct sockaddr_in *address)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* What fails at once is tried again a little later: a refused attacker must not turn into one that burns. */
static void breathe(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void start_threads(long count, void *(*run)(void *))
{
    for (long index = 0; index < count; index++) {
        pthread_t thread;
        errno = pthread_create(&thread, NULL, run, NULL);
        if (errno != 0)
            die("pthread_create");
    }
    for (;;)
        pause();
}

/* --- the resolver ------------------------------------------------------------------------------------------ */

static unsigned char question[512];
static size_t question_length = 12;

/* A question for the addresses of a name, as it goes over a stream without its length. */
static void ask_for(const char *name)
{
    size_t at = 12;
    memcpy(question, "\0\1\1\0\0\1\0\0\0\0\0\0", 12);
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        if (label == 0 || label > 63 || at + label + 6 > sizeof question)
            die("\"%s\" is no name", name);
        question[at++] = (unsigned char)label;
        memcpy(question + at, name, label);
        at += label;
        name += label + (name[label] == '.');
    }
    memcpy(question + at, "\0\0\1\0\1", 5);
    question_length = at + 5;
}

static const struct sockaddr_in *resolver(void)
{
    static struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons(53);
    inet_pton(AF_INET, "192.0.0.1", &address.sin_addr);
    return &address;
}

static void *dns_reader(void *argument)
{
    static __thread char buffer[1 << 16];
    int fd = *(int *)argument;
    while (read(fd, buffer, sizeof buffer) > 0)
        ;
    shutdown(fd, SHUT_RDWR);
    return NULL;
}

static void *dns_by_tcp(void *unused)
{
    (void)unused;
    size_t each = 2 + question_length;
    unsigned char *batch = malloc(BATCH * each);
    if (batch == NULL)
        die("malloc");
    for (size_t index = 0; index < BATCH; index++) {
        batch[index * each] = (unsigned char)(question_length >> 8);
        batch[index * each + 1] = (unsigned char)question_length;
        memcpy(batch + index * each + 2, question, question_length);
    }
    for (;;) {
        int fd = connected(resolver());
        pthread_t reader;
        if (fd < 0) {
            breathe();
            continue;
        }
        errno = pthread_create(&reader, NULL, dns_reader, &fd);
        if (errno != 0)
            die("pthread_create");
        while (write_all(fd, batch, BATCH * each) == 0)
            ;
        shutdown(fd, SHUT_RDWR);
        pthread_join(reader, NULL);
        close(fd);
    }
    return NULL;
}

static void *dns_by_udp(void *unused)
{
    (void)unused;
    char answer[512];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)resolver(), sizeof(struct sockaddr_in)) < 0)
        die("socket");
    for (;;) {
        send(fd, question, question_length, MSG_DONTWAIT);
        while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0)
            ;
    }
    return NULL;
}

/* --- flows ------------------------------------------------------------------------------------------------- */

static void *connect_and_close(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = connected(&target);
        if (fd < 0)
            breathe();
        else
            close(fd);
    }
    return NULL;
}

static void keep_flows(long count)
{
    static char zeros[1 << 16];
    for (long index = 0; index < count; index++) {
        int fd = connected(&target);
        if (fd < 0) {
            breathe();
            continue;
        }
        while (send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
    }
    for (;;)
        pause();
}

static void udp_everywhere(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    for (unsigned port = 1;; port = port % 65535 + 1) {
        target.sin_port = htons((uint16_t)port);
        sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&target, sizeof target);
    }
}

/* 10/8 is never public: the rules refuse its connections, and datagrams are dropped. */
static void *be_denied(void *unused)
{
    (void)unused;
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in denied = {.sin_family = AF_INET, .sin_port = htons(443)};
    for (uint32_t host = 1;; host++) {
        denied.sin_addr.s_addr = htonl(0x0a000000U | (host & 0xffffffU));
        sendto(udp, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&denied, sizeof denied);
        int fd = connected(&denied);
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

/* --- others ------------------------------------------------------------------------------------------------ */

static void *write_output(void *unused)
{
    static char text[1 << 16];
    (void)unused;
    memset(text, 'x', sizeof text);
    for (;;)
        if (write_all(STDOUT_FILENO, text, sizeof text) < 0 || write_all(STDERR_FILENO, text, sizeof text) < 0)
            breathe();
    return NULL;
}

static double share;

static void spin_a_little(void)
{
    for (volatile int spin = 0; spin < 20000; spin++)
        ;
}

/*
 * Ten milliseconds at a time: so much work, then so much rest. The work is counted, not timed: where others are at work,
 * time passes without it. What is late is made up for, up to a second.
 */
static void *burn(void *unused)
{
    static const int64_t slice = 10000000, most_late = 1000000000;
    enum { TRIES = 20, SPINS = 100 };
    double quickest = (double)most_late, owed = 0;
    (void)unused;
    /* Looking at the clock takes a while in gVisor: it isn't to count. */
    for (int try = 0; try < TRIES; try++) {
        int64_t begin = now_ns();
        for (int spin = 0; spin < SPINS; spin++)
            spin_a_little();
        double took = (double)(now_ns() - begin) / SPINS;
        quickest = took > 0 && took < quickest ? took : quickest;
    }
    int64_t next = now_ns();
    for (;;) {
        for (owed += share * (double)slice; owed >= quickest; owed -= quickest)
            spin_a_little();
        next += slice;
        int64_t rest = next - now_ns();
        if (rest > 0)
            nanosleep(&(struct timespec){.tv_nsec = rest}, NULL);
        else if (rest < -most_late)
            next = now_ns();
    }
    return NULL;
}

static uint16_t checksum(const unsigned char *data, size_t length, uint32_t sum)
{
    for (size_t at = 0; at + 1 < length; at += 2)
        sum += (uint32_t)(data[at] << 8 | data[at + 1]);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

/* The link addresses and 192.0.0.2 are the same for every sandbox. */
static void flood_of_syns(long pid)
{
    unsigned char frame[54] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45};
    unsigned char *ip = frame + 14, *tcp = frame + 34;
    enter_one(pid, "net", CLONE_NEWNET);
    int wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct sockaddr_ll link = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0")};
    if (wire < 0 || link.sll_ifindex == 0 || bind(wire, (struct sockaddr *)&link, sizeof link) < 0)
        die("no packet socket on the sandbox's eth0");
    put16(ip + 2, 40);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    memcpy(ip + 12, "\300\0\0\2", 4);
    memcpy(ip + 16, &target.sin_addr, 4);
    put16(ip + 10, checksum(ip, 20, 0));
    tcp[12] = 5 << 4;
    tcp[13] = 2;
    put16(tcp + 14, 65535);
    for (uint32_t index = 0;; index++) {
        put16(tcp, 1024 + index % 64000);
        put16(tcp + 2, 80 + index / 64000 % 1000);
        put16(tcp + 4, index * 2654435761U >> 16);
        put16(tcp + 16, 0);
        put16(tcp + 16, checksum(tcp, 20, (uint32_t)(IPPROTO_TCP + 20) + (uint16_t)~checksum(ip + 12, 8, 0)));
        if (send(wire, frame, sizeof frame, 0) < 0)
            breathe();
    }
}

/* --- the others' side -------------------------------------------------------------------------------------- */

static int bound(int type, long port)
{
    int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind port %ld", port);
    return fd;
}

static void be_deaf(long port)
{
    int fd = bound(SOCK_STREAM, port);
    if (listen(fd, 4096) < 0)
        die("listen");
    for (;;)
        accept(fd, NULL, NULL);
}

static void answer_names(long port)
{
    unsigned char message[2048];
    struct sockaddr_in from;
    int fd = bound(SOCK_DGRAM, port);
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, message, 600, 0, (struct sockaddr *)&from, &size);
        if (got < 17)
            continue;
        size_t at = 12;
        while (at < (size_t)got && message[at] != 0)
            at += 1 + (size_t)message[at];
        at += 5;
        if (at > (size_t)got)
            continue;
        int addresses = message[at - 3] == 1 ? 64 : 0;
        put16(message + 2, 0x8180);
        put16(message + 6, (unsigned)addresses);
        memset(message + 8, 0, 4);
        for (int index = 0; index < addresses; index++, at += 16) {
            memcpy(message + at, "\300\14\0\1\0\1\0\0\1\54\0\4\54\1\2", 15);
            message[at + 15] = (unsigned char)(index + 1);
        }
        sendto(fd, message, at, 0, (struct sockaddr *)&from, size);
    }
}

static void probe(long port)
{
    int listener = bound(SOCK_STREAM, port);
    if (listen(listener, 64) < 0)
        die("listen");
    for (;;) {
        int64_t count;
        int fd = accept(listener, NULL, NULL), out = -1;
        while (fd >= 0 && read_all(fd, &count, sizeof count) == 0) {
            for (; count > 0; count--) {
                char byte = 'k';
                int64_t before = now_ns();
                if (out < 0)
                    out = connected(&target);
                if (out < 0 || write_all(out, &byte, 1) < 0 || read_all(out, &byte, 1) < 0) {
                    close(out);
                    out = -1;
                    breathe();
                }
                int64_t took = now_ns() - before;
                if (write_all(fd, &took, sizeof took) < 0)
                    break;
            }
        }
        close(out);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    const char *mode = argc > 1 ? argv[1] : "";
    signal(SIGPIPE, SIG_IGN);
    /* What is forgotten ends by itself. */
    alarm(3600);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (argc == 3 && strcmp(mode, "dns-tcp") == 0) {
        start_threads(number(argv[2], 1, THREADS), dns_by_tcp);
    } else if (argc == 2 && strcmp(mode, "dns-udp") == 0) {
        start_threads(2, dns_by_udp);
    } else if (argc == 4 && strcmp(mode, "dns-cached") == 0) {
        ask_for(argv[3]);
        start_threads(number(argv[2], 1, THREADS), dns_by_tcp);
    } else if (argc == 4 && strcmp(mode, "connects") == 0) {
        set_target(argv[2]);
        start_threads(number(argv[3], 1, THREADS), connect_and_close);
    } else if (argc == 4 && strcmp(mode, "flows") == 0) {
        set_target(argv[2]);
        keep_flows(number(argv[3], 1, 100000));
    } else if (argc == 3 && strcmp(mode, "udp") == 0) {
        set_target(argv[2]);
        udp_everywhere();
    } else if (argc == 2 && strcmp(mode, "denials") == 0) {
        start_threads(4, be_denied);
    } else if (argc == 2 && strcmp(mode, "output") == 0) {
        start_threads(2, write_output);
    } else if (argc == 2 && strcmp(mode, "stop-init") == 0) {
        kill(1, SIGSTOP);
        for (;;)
            pause();
    } else if (argc == 3 && strcmp(mode, "burn") == 0) {
        /* On all processors, as gVisor's threads are that it stands for. */
        long milli = number(argv[2], 0, 64000), threads = (milli + 999) / 1000, all = sysconf(_SC_NPROCESSORS_ONLN);
        threads = threads < all ? all : threads;
        share = (double)milli / 1000.0 / (double)threads;
        start_threads(threads, burn);
    } else if (argc == 4 && strcmp(mode, "syn") == 0) {
        set_target(argv[3]);
        flood_of_syns(number(argv[2], 1, 1L << 30));
    } else if (argc == 3 && strcmp(mode, "deaf") == 0) {
        be_deaf(number(argv[2], 1, 65535));
    } else if (argc == 3 && strcmp(mode, "names") == 0) {
        answer_names(number(argv[2], 1, 65535));
    } else if (argc == 4 && strcmp(mode, "probe") == 0) {
        set_target(argv[3]);
        probe(number(argv[2], 1, 65535));
    } else if (argc == 2 && strcmp(mode, "true") == 0) {
        return 0;
    }
    fprintf(stderr, "usage: attack MODE ...: see client/attack.c\n");
    return 2;
}
