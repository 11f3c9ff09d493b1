package main

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// hints is all advice that the command line gives: the first row that fits the error counts. An empty op fits any.
var hints = []struct {
	op  string // of the messages.OpError
	err error
	say string
}{
	{"", errExists, "-overwrite replaces files that differ; those that are the same stay as they are"},
	{"", errUnsafe, "PATH is below the DIR of the peer: without .. and a leading /, and through no symbolic link that leads outside"},
	{"", errDiffers, "a file has changed meanwhile; the same command again copies what is missing"},
	{"", errBusy, "somebody else copies to the same place; try again later, or take another PATH"},
	{"", errNoAnswer, "conec doctor PEER says what is in the way"},
	{"", errTooMany, "copy the folders in it one by one, or an archive of all"},
	{"", errStorage, "at the peer: is there space, and may conec write there?"},
	{"", errLink, "-skip leaves out what is neither file nor folder, and partial files"},
	{"", errEnded, "start the other side again; the same command then copies what is missing"},
	{"", messages.ErrInDoubt, "the same command again copies what is missing"},
	{"", messages.ErrNameTaken, "another client has the name now; take another with -name, or stop that one (after a crash it is free in 15 seconds, with the same -cert and -key at once)"},
	{"", messages.ErrNameMismatch, "the certificate's only DNS name, or its common name, must be what -name says"},
	{"", messages.ErrNameInvalid, "a name has 1 to 63 of a-z, 0-9 and, inside, - _ ."},
	{"", messages.ErrSuperseded, "the same certificate is in use by a newer client; each needs its own"},
	{"", errPolicy, "docs/operations.md has a whole file, and says what each section means"},
	{"attach", messages.ErrForbidden, "the coordinator's policy wants a certificate (-cert, -key) or a join token (-token, CONEC_TOKEN) for this name; ask who runs it"},
	{"", messages.ErrForbidden, "the coordinator's policy decides that; ask who runs it"},
	{"", messages.ErrBanned, "who runs the coordinator has decided that"},
	{"attach", messages.ErrUntrusted, "compare -fingerprint or -ca with what the coordinator printed at its start, and the host with its -host; " +
		"if it wants certificates (-client-ca), give -cert and -key"},
	{"", messages.ErrUntrusted, "one side's certificate is not the one that the other expects (-expect, -known, -peer-ca) or that the coordinator vouched for; are the clocks right?"},
	{"", messages.ErrVersion, "the two sides speak different protocols: compare conec version on both; is the address that of a coordinator?"},
	{"", messages.ErrNoSuchPeer, "is the peer running (conec COMMAND -name PEER -accept), and attached to the same coordinator?"},
	{"", messages.ErrNotAccepting, "the peer only connects to others; start it with -accept"},
	{"", messages.ErrRefused, "the peer decides whom it accepts"},
	{"", messages.ErrBusy, "the peer has not accepted the streams before; try again later"},
	{"", messages.ErrLimit, "a limit of the coordinator or the peer is reached; see docs/operations.md"},
	{"", messages.ErrReset, "the peer ended before all was done, or accepts somebody else only"},
	{"", messages.ErrShutdown, "the coordinator or the peer is stopping; try again later"},
	{"attach", messages.ErrUnreachable, "is the coordinator running there, and may UDP packets, or else TCP, reach its port? -proxy names an HTTP proxy"},
	{"attach", messages.ErrTimeout, "is the coordinator running there, and may UDP packets, or else TCP, reach its port? -proxy names an HTTP proxy"},
	{"open stream", messages.ErrUnreachable, "no path leads to the peer; -mode auto can use the relay"},
	{"open stream", messages.ErrTimeout, "the peer does not answer; is it still running?"},
	{"", messages.ErrUnreachable, "the peer's program or network is gone"},
	{"", messages.ErrTimeout, "the peer has not read everything in time; -linger says how long to wait"},
	{"", errBadFile, "conec sim example prints a file to start from, docs/simulation.md explains the fields"},
	{"", syscall.EADDRINUSE, "another program has the port; is a coordinator running already? -addr takes another"},
	{"", fs.ErrExist, "-force replaces what is there; a key that is replaced is lost"},
	{"", fs.ErrPermission, "who runs conec must own the file and its folder; ports below 1024 need privileges"},
	{"", fs.ErrNotExist, "check the file name"},
	{"", syscall.EPIPE, "what reads the output went away"},
	{"", net.ErrClosed, "the other side has ended"},
	{"", errUsage, "conec help"},
}

// pathHints is what to do about a channel that is not direct.
var pathHints = map[client.PathReason]string{
	client.ReasonRelayOnly:      "direct paths are off: take -mode auto here, or at the peer if that opened the channel so",
	client.ReasonNothingOffered: "the peer's client is configured for the relay only (-mode relay, or Config.RelayOnly); nothing can be done here",
	client.ReasonSearching:      "-w waits longer",
	client.ReasonProving:        "-w waits longer",
	client.ReasonHeldDown:       "-w waits longer",
	client.ReasonDied:           "something on the direct path has changed; it is probed all the time, and used when it answers",
	client.ReasonNoAnswer: "a firewall blocks UDP between the two, or the NATs at both sides are too strict: " +
		"conec doctor at the other side tells more; forwarding the UDP port at one router, or IPv6 at both sides, helps",
	client.ReasonOneWay: "packets pass from the peer to us and not back: a firewall here must let UDP out, or one at the peer let it in",
	client.ReasonNoLink: "the interface is down or has another name: see ip link",
	client.ReasonUnsent: "this host has no route to any address of the peer: IPv6 at one side only, or another network of the same addresses?",
}

// doctorHints is what to do about a network.
var doctorHints = struct{ hardNAT, narrow, clock string }{
	hardNAT: "this NAT takes another port for each destination: a direct path to a peer behind such a NAT, too, needs a forwarded port or IPv6; to others it may take some seconds to find one",
	narrow:  "a tunnel or VPN on the way to the coordinator takes small packets only; all works, but slower",
	clock:   "set the clock (NTP): certificates of others may look expired, or not valid yet",
}

// hintFor returns advice about an error, or nothing.
func hintFor(err error) string {
	if errors.Is(err, errPlay) {
		return "" // what is wrong in a simulated network is nothing that this machine has
	}
	op := ""
	if failed, ok := errors.AsType[*messages.OpError](err); ok {
		op = failed.Op
	}
	for _, hint := range hints {
		if (hint.op == "" || hint.op == op) && errors.Is(err, hint.err) {
			return hint.say
		}
	}
	return ""
}
