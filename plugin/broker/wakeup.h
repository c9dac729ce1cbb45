/* Interrupts the broker's poll.
 *
 * Mosquitto waits for sockets for up to 100 ms (built with websockets) or a day (without) and offers no call
 * to wake it. So when the outbound queue fills, the loop thread sends the broker thread a signal, which makes
 * its epoll_wait() return; a timer repeats the signal until the broker thread has come round, because one
 * that arrives just before the poll begins is lost. */
#ifndef MQTTASGI_WAKEUP_H
#define MQTTASGI_WAKEUP_H

#include <stdbool.h>
#include <stdint.h>

struct wakeup;

/* On the broker thread, which is the one that will be woken. NULL with errno when the system refuses. */
struct wakeup *wakeup_new(void);

/* Broker thread. Takes NULL. No other thread may use it any more. */
void wakeup_free(struct wakeup *wakeup);

/* Makes the broker thread's next or current poll return. Any thread; at most two system calls, none while an
 * earlier request is still under way. */
void wakeup_request(struct wakeup *wakeup);

/* Broker thread: "I am awake and will look at the queue again before I poll": until wakeup_settle(), requests
 * cost nothing. */
void wakeup_attend(struct wakeup *wakeup);

/* Broker thread: the poll that follows must return soon, whoever asks. */
void wakeup_insist(struct wakeup *wakeup);

/* Broker thread: the requests so far are dealt with. A request that comes after this call wakes again, so
 * look at the queue once more when it returns. */
void wakeup_settle(struct wakeup *wakeup);

/* Broker thread: the same, unless requests are made and it has not slept for some rounds. Then its polls
 * return at once, and until it has slept again requests, which would only cost it time, do nothing: it comes
 * round by itself, or, when there is suddenly nothing more to do, the timer sees to it, a millisecond later
 * at most. Returns whether they are settled. */
bool wakeup_settle_unless_busy(struct wakeup *wakeup);

/* Broker thread: sleeps until a request comes or the time is over, like the broker's poll. */
void wakeup_wait(struct wakeup *wakeup, unsigned int milliseconds);

/* When the last request was made that came while the broker thread polled, by now_ns(); 0: none was. */
uint64_t wakeup_requested_at(const struct wakeup *wakeup);

/* Signals asked for since the start. */
uint64_t wakeup_count(const struct wakeup *wakeup);

#endif
