package netio

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchHost calls hint, by one goroutine, when the kernel tells that the network has changed, until end is called. It
// watches the network namespace of the thread that it is called on.
func watchHost(hint func(Hint)) (end func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return pollHost(hint)
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return pollHost(hint) // Android denies it
	}
	file := os.NewFile(uintptr(fd), "netlink")
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchRoutes(file, hint)
	}()
	return func() {
		_ = file.Close()
		<-done
	}, nil
}

// watchRoutes reads what the kernel tells until the socket is closed.
func watchRoutes(file *os.File, hint func(Hint)) {
	buf := make([]byte, 4<<10) // longer messages are cut, whose beginning is enough
	now := bootClock()
	sleep := drowse{now()}
	for {
		_ = file.SetReadDeadline(time.Now().Add(sleepTick))
		n, err := file.Read(buf)
		told, relevant := Hint{}, false
		switch {
		case err == nil:
			told, relevant = routeHint(buf[:n])
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, unix.ENOBUFS): // some were lost
			told, relevant = Hint{Rerouted: true}, true
		default:
			return
		}
		if told.Slept = sleep.slept(now()); relevant || told.Slept > 0 {
			hint(told)
		}
	}
}

// routeHint says what a group of netlink messages means, and whether they mean anything.
func routeHint(messages []byte) (hint Hint, relevant bool) {
	for len(messages) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(messages))
		kind := binary.NativeEndian.Uint16(messages[4:])
		if size < unix.SizeofNlMsghdr {
			return hint, relevant
		}
		switch kind {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWLINK, unix.RTM_DELLINK:
			relevant = true
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if isDefaultRoute(messages[unix.SizeofNlMsghdr:min(size, len(messages))]) {
				hint.Rerouted, relevant = true, true
			}
		}
		messages = messages[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(messages)):]
	}
	return hint, relevant
}

// isDefaultRoute tells whether an rtmsg is about a route to everywhere; others come and go with addresses, or by the
// thousand.
func isDefaultRoute(rtmsg []byte) bool {
	if len(rtmsg) < unix.SizeofRtMsg {
		return false
	}
	prefix, table, kind := rtmsg[1], rtmsg[4], rtmsg[7]
	flags := binary.NativeEndian.Uint32(rtmsg[8:])
	return prefix == 0 && kind == unix.RTN_UNICAST && table != unix.RT_TABLE_LOCAL && flags&unix.RTM_F_CLONED == 0
}

// bootClock is a clock that goes on while the host sleeps, and is never set.
func bootClock() func() time.Duration {
	return func() time.Duration {
		var at unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
			return 0
		}
		return time.Duration(at.Nano())
	}
}
