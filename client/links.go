package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// maxLinks is how many links a client may have beside its first one.
const maxLinks = 8

// LinkChoice says which links of this client ([Config.Links]) the direct packets of a
// channel take. Each side chooses for what it sends itself. The zero LinkChoice is all
// alike: the fastest path is taken. The relay is always reached as the home channel is.
type LinkChoice struct {
	// Prefer is the link that is taken whenever a path over it answers, however slow it
	// is; empty: none.
	Prefer string
	// Only tells that no other link is taken: without a path over the preferred one, the
	// relay is.
	Only bool
	// Copy is the link over which a copy of each packet goes while a path over it answers
	// and the packet itself goes elsewhere; empty: none. The peer drops the second. So the
	// death of either path costs no time, and twice the traffic. Where there is no path, there
	// are no copies.
	Copy string
}

// linkErrors says what is wrong with [Config.Links].
func (c *Config) linkErrors() (errs []error) {
	if len(c.Links) > maxLinks {
		errs = append(errs, fmt.Errorf("Config.Links are %d: want at most %d", len(c.Links), maxLinks))
	}
	for i, link := range c.Links {
		if link == "" || slices.Contains(c.Links[:i], link) {
			errs = append(errs, fmt.Errorf("Config.Links: %q is empty, or there twice: want names of interfaces, such as \"wlan0\"", link))
		}
	}
	return errs
}

// check says what is wrong with a choice among links.
func (c LinkChoice) check(links []string) error {
	for _, field := range []struct{ name, link string }{{"Prefer", c.Prefer}, {"Copy", c.Copy}} {
		if field.link != "" && !slices.Contains(links, field.link) {
			return fmt.Errorf("LinkChoice.%s is %q: want one of Config.Links, %q", field.name, field.link, links)
		}
	}
	switch {
	case c.Only && c.Prefer == "":
		return errors.New("LinkChoice.Only is set: Prefer has to say which link")
	case c.Prefer != "" && c.Prefer == c.Copy:
		return fmt.Errorf("LinkChoice.Copy is %q, like Prefer: want another link", c.Copy)
	}
	return nil
}

// SetLinks has the channel's direct packets take other links, from now on, whether these are
// there now or come later. It does not block. Other channels stay where they are.
func (ch *Channel) SetLinks(choice LinkChoice) error {
	if err := choice.check(ch.cl.config.Links); err != nil {
		return err
	}
	ch.ref.Choose(actors.LinkChoice(choice))
	ch.cl.sys.Root.Send(ch.ref.pid, actors.AddrsChanged{})
	return nil
}

// ownLink is a link beside the first one. It is never changed.
type ownLink struct {
	actors.OwnLink
	observed netip.AddrPort // as the coordinator sees it; not valid: not known
	keep     func() bool    // has it no longer closed when the client actor's life ends
}

// errNoAddrs is why a link is not of use yet.
var errNoAddrs = errors.New("the interface has no address")

// linkState is what a client actor knows of links beside the first one.
type linkState struct {
	opening  map[string]bool                     // those that a pump opens: whether the network has changed meanwhile
	unasked  []ownLink                           // of which the coordinator is still to say how it sees them
	rounds   int                                 // of asking about all of them
	observes map[netio.Link]func(netip.AddrPort) // who wants to know how links of channels are seen
}

func newLinkState() linkState {
	return linkState{opening: map[string]bool{}, observes: map[netio.Link]func(netip.AddrPort){}}
}

// linkOpened is sent by the pump that opens a link.
type linkOpened struct {
	actors.Life
	name string
	keep func() bool
	link netio.Link
	err  error
}

// observeLink is sent by channels.
type observeLink struct {
	link netio.Link
	tell func(netip.AddrPort)
}

// ownLinks returns the links that are there now.
func (cl *Client) ownLinks() []ownLink {
	if links := cl.shared.links.Load(); links != nil {
		return *links
	}
	return nil
}

// linksOf returns them as channels need them.
func (cl *Client) linksOf() (links []actors.OwnLink) {
	for _, own := range cl.ownLinks() {
		links = append(links, own.OwnLink)
	}
	return links
}

// linkName returns the name of a link, empty if it is the first one.
func (cl *Client) linkName(link netio.Link) string {
	for _, own := range cl.ownLinks() {
		if own.Link == link {
			return own.Name
		}
	}
	return ""
}

// syncLinks closes the links whose interfaces are gone, and has those opened that are
// missing.
func (c *clientActor) syncLinks(ctx actor.Context) {
	var there []ownLink
	for _, own := range c.cl.ownLinks() {
		if len(own.Link.Addrs()) > 0 {
			there = append(there, own)
			continue
		}
		c.cl.config.Logger.Info("link closed", "link", own.Name)
		own.keep()
		c.cl.transport.Switch().RemoveLink(own.Link)
	}
	c.cl.shared.links.Store(&there)
	for _, name := range c.cl.config.Links {
		if _, opens := c.links.opening[name]; opens {
			c.links.opening[name] = true
		} else if !slices.ContainsFunc(there, func(own ownLink) bool { return own.Name == name }) {
			c.openLink(ctx, name)
		}
	}
}

// openLink has a pump open a link.
func (c *clientActor) openLink(ctx actor.Context, name string) {
	c.links.opening[name] = false
	life, root, self, open, sw := c.life, ctx.ActorSystem().Root, ctx.Self(), c.cl.config.OpenLinkOn, c.cl.transport.Switch()
	c.cl.sys.Pumps.Go(func() {
		opened := linkOpened{Life: life, name: name}
		if opened.link, opened.err = open(name); opened.err == nil {
			opened.keep = context.AfterFunc(life.Context(), func() { sw.RemoveLink(opened.link) }) // also if nobody hears of it
		}
		root.Send(self, opened)
	})
}

// linkOpened takes a link. One that could not be opened is tried again when the network
// changes.
func (c *clientActor) linkOpened(ctx actor.Context, msg linkOpened) {
	changed := c.links.opening[msg.name]
	delete(c.links.opening, msg.name)
	if msg.err == nil && len(msg.link.Addrs()) == 0 {
		msg.keep()
		_ = msg.link.Close() // nothing uses it
		msg.err = errNoAddrs
	}
	if msg.err != nil {
		c.cl.config.Logger.Info("link not opened", "link", msg.name, "err", msg.err)
		if changed {
			c.openLink(ctx, msg.name)
		}
		return
	}
	c.cl.config.Logger.Info("link opened", "link", msg.name, "addr", msg.link.LocalAddr().String())
	c.cl.transport.Switch().AddLink(msg.link)
	there := append(slices.Clone(c.cl.ownLinks()), ownLink{OwnLink: actors.OwnLink{Name: msg.name, Link: msg.link}, keep: msg.keep})
	c.cl.shared.links.Store(&there)
	c.askLinks()
	c.tellChannels(ctx, actors.AddrsChanged{})
}

// askLinks has the coordinator say under which addresses it sees the links, which also keeps
// the mappings of NATs.
func (c *clientActor) askLinks() {
	relay := c.cl.shared.relay.Load()
	if !c.bound || relay == nil {
		return
	}
	clear(c.links.observes) // who still wants to know asks again
	all := c.cl.ownLinks()
	if n := len(all); n > 0 { // another one first, in case this one's answers are lost
		c.links.rounds++
		first := c.links.rounds % n
		all = slices.Concat(all[first:], all[:first])
	}
	c.links.unasked = all
	c.askNext()
}

// askNext asks how the next link is seen. The coordinator and the switch take what is older
// than what came before for a replay, so there is one question at a time.
func (c *clientActor) askNext() {
	l := &c.links
	if relay := c.cl.shared.relay.Load(); len(l.unasked) > 0 && relay != nil {
		c.askBy(l.unasked[0].Link, relay.To)
		l.unasked = l.unasked[1:]
	}
}

func (c *clientActor) askBy(link netio.Link, relay netip.AddrPort) {
	c.sequence++
	frame := netio.EncodeAsk(nil, c.id, c.sequence, c.key, 0)
	_ = c.cl.transport.Switch().Send(link, relay, frame) // lost, it is sent again
}

// maxObserves is how many links of channels may wait for an answer; more are not asked about.
const maxObserves = 256

// observe asks how a channel's own link is seen.
func (c *clientActor) observe(msg observeLink) {
	relay := c.cl.shared.relay.Load()
	if _, asked := c.links.observes[msg.link]; !c.bound || relay == nil || !asked && len(c.links.observes) == maxObserves {
		return
	}
	c.links.observes[msg.link] = msg.tell
	c.askBy(msg.link, relay.To)
}

// linkSeen takes under which address the coordinator sees a link. It returns false if it is
// about no such link.
func (c *clientActor) linkSeen(ctx actor.Context, msg boundHeard) bool {
	if tell := c.links.observes[msg.link]; tell != nil {
		delete(c.links.observes, msg.link)
		tell(msg.frame.Observed)
		return true
	}
	links := slices.Clone(c.cl.ownLinks())
	i := slices.IndexFunc(links, func(own ownLink) bool { return own.Link == msg.link })
	if i < 0 {
		return false
	}
	c.askNext()
	if links[i].observed != msg.frame.Observed {
		links[i].observed = msg.frame.Observed
		c.cl.shared.links.Store(&links)
		c.tellChannels(ctx, actors.AddrsChanged{})
	}
	return true
}
