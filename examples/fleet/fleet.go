package main

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
)

// What sensors and the hub say to each other.
type (
	// Report is what a sensor tells by itself: a reading, numbered by the process, and the command that it carried out last,
	// by its ID. So a report that is lost is made up for by the next one.
	Report struct {
		Number int
		Value  float64
		Done   string
	}
	// Command is to be carried out once. It may come again, with the same ID.
	Command struct{ ID, Do string }
)

// wire has one of each type that crosses the network.
func wire() []any { return []any{&Report{}, &Command{}} }

// sensors are the clients that are sensors.
const sensors = "sensor-*"

// fleet knows all sensors, and what is to be done by which.
//
//	behavior  message        does
//	any       giveOrder      has the sensor carry it out, as soon as it is there
//	any       reported       notes where the sensor is, and what it has carried out
//	any       *PeerAbsent    notes that the sensor is away
//	any       *Confirmation  notes whether a command has arrived
//	any       awaitOrders    answers when all orders are carried out
//	any       listOrders     answers at once
//
// Parent: the system's root, which restarts it. What it knows survives that.
type fleet struct {
	sys     *client.Actors
	devices map[string]*device // by the sensor's name
	orders  []*order
	asking  []*actor.PID
	show    func(event any) // does not block
}

type (
	giveOrder struct{ sensor, do string }
	// reported is a report, with who made it: the client's name is authenticated.
	reported struct {
		sensor  string
		process *actor.PID
		report  *Report
	}
	// appeared tells that a sensor reports that was away, or another process of it.
	appeared struct{ sensor string }
	// away tells that there is no way to a sensor.
	away struct{ sensor string }
	// carriedOut tells that an order was.
	carriedOut struct{ order order }

	// awaitOrders and listOrders are questions, orderList is the answer.
	awaitOrders struct{}
	listOrders  struct{}
	orderList   struct{ orders []order }
)

// tag tells confirmations apart.
type tag struct {
	sensor, id string
	process    *actor.PID
}

// hub is a fleet as the program sees it.
type hub struct {
	sys *client.Actors
	pid *actor.PID
}

// openHub has a client look after sensors. show is called with each reported, appeared, away and carriedOut: it must not block.
func openHub(cl *client.Client, show func(event any)) (*hub, error) {
	sys := cl.Actors()
	f := &fleet{sys: sys, devices: map[string]*device{}, show: show}
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return f }), "fleet")
	if err != nil {
		return nil, err
	}
	return &hub{sys, pid}, sys.OnPeer(actors.PeerConfig{Who: actors.Match(sensors), Props: func(peer string) *actor.Props {
		return sys.Props(func() actor.Actor { return &post{peer, pid} })
	}})
}

// order has a sensor do something, as soon as it is there.
func (h *hub) order(sensor, do string) { h.sys.Root.Send(h.pid, giveOrder{sensor, do}) }

// carriedOut blocks until all orders are carried out, or ctx ends.
func (h *hub) carriedOut(ctx context.Context) ([]order, error) {
	list, err := actors.Ask[orderList](ctx, h.sys, h.pid, awaitOrders{})
	return list.orders, err
}

// orders returns all orders as they are.
func (h *hub) orders(ctx context.Context) ([]order, error) {
	list, err := actors.Ask[orderList](ctx, h.sys, h.pid, listOrders{})
	return list.orders, err
}

// post is what a sensor has at the hub: what comes to it is from that sensor.
//
//	behavior  message       does
//	any       *Report       tells the fleet, with the sensor's name
//	any       *PeerAbsent   tells the fleet
//
// Parent: the actor of OnPeer, which restarts it.
type post struct {
	sensor string
	fleet  *actor.PID
}

// Receive implements actor.Actor.
func (p *post) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *Report:
		if ctx.Sender() != nil {
			ctx.Send(p.fleet, reported{p.sensor, ctx.Sender(), msg})
		}
	case *actors.PeerAbsent:
		ctx.Send(p.fleet, msg)
	}
}

// Receive implements actor.Actor.
func (f *fleet) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case giveOrder:
		o := &order{sensor: msg.sensor, Command: Command{Do: msg.do}}
		o.ID = fmt.Sprintf("%s %d", f.sys.Address(), len(f.orders)+1) // an address is of one process only
		f.orders = append(f.orders, o)
		d := f.device(msg.sensor)
		d.orders = append(d.orders, o)
		f.send(ctx, d)
	case reported:
		f.reported(ctx, msg)
	case *actors.PeerAbsent:
		f.device(msg.Peer).absent()
		f.show(away{msg.Peer})
	case *actors.Confirmation:
		if t, ok := msg.Tag.(tag); ok {
			f.device(t.sensor).confirmed(t.id, t.process, msg.Err)
		}
	case awaitOrders:
		f.asking = append(f.asking, ctx.Sender())
		f.answer(ctx)
	case listOrders:
		ctx.Respond(f.list())
	}
}

// device returns what is known of a sensor.
func (f *fleet) device(sensor string) *device {
	if f.devices[sensor] == nil {
		f.devices[sensor] = &device{}
	}
	return f.devices[sensor]
}

func (f *fleet) reported(ctx actor.Context, msg reported) {
	d := f.device(msg.sensor)
	if !d.present || !msg.process.Equal(d.process) {
		f.show(appeared{msg.sensor})
	}
	done := d.spoke(msg.process, msg.report.Done)
	f.show(msg)
	if done != nil {
		f.show(carriedOut{*done})
		f.answer(ctx)
	}
	f.send(ctx, d)
}

// send sends the order that is to be sent now, if there is one, and hears later whether it has arrived.
func (f *fleet) send(ctx actor.Context, d *device) {
	if o := d.next(); o != nil {
		f.sys.Confirm(ctx, d.process, &Command{ID: o.ID, Do: o.Do}, tag{o.sensor, o.ID, d.process})
	}
}

// answer answers those who wait until all is done, if it is.
func (f *fleet) answer(ctx actor.Context) {
	list := f.list()
	for _, o := range list.orders {
		if !o.done {
			return
		}
	}
	for _, who := range f.asking {
		ctx.Send(who, list)
	}
	f.asking = nil
}

func (f *fleet) list() orderList {
	var list orderList
	for _, o := range f.orders {
		list.orders = append(list.orders, *o)
	}
	return list
}
