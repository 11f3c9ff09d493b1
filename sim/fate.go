package sim

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Fate is what became of a packet at one place.
type Fate uint8

// The fates. All but Passed end the packet.
const (
	Passed      Fate = iota
	Ruled            // dropped by a rule
	Lost             // lost on a line
	Overrun          // found the queue of a line, or of a socket, full
	TooLarge         // did not fit through a line
	Unreachable      // nobody has the address, or no socket the port
	Filtered         // refused by a gateway's filter
	Unmapped         // came to a gateway's port that nothing behind it has
	Exhausted        // found a gateway without a free port
	Blocked          // found a gateway that passes no UDP
	Silent           // its host is paused or its interface down
	fates            // how many there are
)

var fateNames = [fates]string{
	"passed", "ruled", "lost", "overrun", "too large", "unreachable", "filtered", "unmapped", "exhausted", "blocked", "silent",
}

func (f Fate) String() string {
	if f < fates {
		return fateNames[f]
	}
	return fmt.Sprintf("fate %d", uint8(f))
}

// Sight is one packet at one end of one line, for who watches a network.
//
// A packet is seen when it enters the line that takes it up, from a host or a
// gateway, and when it comes out of the line that took it down; each time with
// its headers there. Where it ends, it is seen with the reason.
type Sight struct {
	// Line is the host's interface, such as "alice/eth0", or the gateway; "alice" for
	// what the host sends to itself, "internet" for what leads nowhere there.
	Line string
	// Up tells that the packet leaves the host or gateway, towards the place
	// where that is plugged in.
	Up bool
	// At is how long after the network's start it is.
	At time.Duration
	// From and To are what is in the packet's headers.
	From, To netip.AddrPort
	// TCP tells that it is a segment of TCP, and Payload begins with its header, in which the ports
	// are zero; else it is a datagram of UDP.
	TCP bool
	// Payload must not be kept or changed.
	Payload []byte
	// Fate is Passed, or why the packet ends here.
	Fate Fate
}

// Stats counts datagrams since the start of a network.
type Stats struct {
	// Sent is what programs wrote and [Network.Inject] put in, Delivered what
	// reached a socket. Duplicated came a second time, Corrupted were damaged.
	Sent, Delivered, Duplicated, Corrupted int
	// Ended counts the packets that went no further, by the reason.
	Ended [fates]int
}

// String describes the counters in one line.
func (s Stats) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d sent, %d delivered", s.Sent, s.Delivered)
	if s.Duplicated > 0 || s.Corrupted > 0 {
		fmt.Fprintf(&text, ", %d duplicated, %d corrupted", s.Duplicated, s.Corrupted)
	}
	text.WriteString("; ended:")
	for fate, count := range s.Ended {
		if count > 0 {
			fmt.Fprintf(&text, " %d %s", count, Fate(fate))
		}
	}
	return text.String()
}
