package main

import (
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// order is a command for a sensor, and what has become of it.
type order struct {
	Command
	sensor string
	sent   int  // how often it was sent
	doubts int  // how often it could not be known whether it was carried out, so that it had to be sent again
	done   bool // it was carried out
}

// device is what the hub knows of one sensor: a plain type, run by the fleet. One command at a time is on its way, so that
// the sensor needs to remember only its last one to carry out none twice.
type device struct {
	process  *actor.PID // that spoke last; nil if none did
	present  bool
	orders   []*order // that are not known to be carried out, in order
	underWay bool     // the first of them was sent to the process
}

// next returns the order that is to be sent now, nil if there is none. It is taken for sent.
func (d *device) next() *order {
	if !d.present || d.underWay || len(d.orders) == 0 {
		return nil
	}
	d.underWay = true
	d.orders[0].sent++
	return d.orders[0]
}

// spoke notes that a process of the sensor has reported, and what it has carried out last. It returns the order that is
// known to be done by that, if one is.
func (d *device) spoke(process *actor.PID, done string) (carriedOut *order) {
	if d.underWay && d.orders[0].ID == done {
		carriedOut = d.orders[0]
		carriedOut.done = true
		d.orders, d.underWay = d.orders[1:], false
	}
	if !process.Equal(d.process) && d.underWay { // the former process may have carried it out, and can not be asked any more
		d.orders[0].doubts++
		d.underWay = false
	}
	d.process, d.present = process, true
	return carriedOut
}

// absent notes that there is no way to the sensor. What is under way may still arrive.
func (d *device) absent() { d.present = false }

// confirmed notes whether an order is in the mailbox of a process. If not, it is sent again when the sensor has spoken.
func (d *device) confirmed(id string, process *actor.PID, err error) {
	if err == nil || !d.underWay || d.orders[0].ID != id || !process.Equal(d.process) {
		return
	}
	if errors.Is(err, actors.ErrPeerGone) || errors.Is(err, actors.ErrPeerUnreachable) {
		d.orders[0].doubts++
	}
	d.underWay, d.present = false, false
}
