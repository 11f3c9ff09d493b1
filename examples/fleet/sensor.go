package main

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

// sensorConfig says what a sensor does.
type sensorConfig struct {
	// every is the time between two reports.
	every time.Duration
	// read returns what is measured. It does not block.
	read func() float64
	// carry carries out a command. It may block, and ends soon after ctx does.
	carry func(ctx context.Context, do string)
}

// sensor reports by itself, and carries out commands: one at a time, and none twice. The hub sends the next one when it knows
// of the last one; only if the hub was restarted, another one can come meanwhile.
//
//	behavior  message   does                                               then
//	any       Started   reports, and starts the clock                      idle
//	any       tick      reports                                            -
//	idle      *Command  starts the pump that carries it out                busy
//	idle      *Command  if that was the last one: reports                  -
//	busy      *Command  keeps it, if it is another                         -
//	busy      carried   reports, and carries out the one that it has kept  idle
//
// What it reports while the hub is away for long is lost; it goes on all the same.
//
// Parent: the system's root, which restarts it. What it has carried out survives that.
type sensor struct {
	sensorConfig
	sys  *client.Actors
	hub  *actor.PID
	life actors.Life
	*memory
	now, kept *Command
}

// memory is what lasts as long as the process.
type memory struct {
	reports int
	done    string // ID of the last command
}

// Told by pumps.
type (
	tick    struct{ actors.Life }
	carried struct{ actors.Life }
)

// startSensor has a client be a sensor.
func startSensor(cl *client.Client, config sensorConfig) error {
	sys, all := cl.Actors(), &memory{}
	_, err := sys.Spawn(sys.Props(func() actor.Actor {
		return &sensor{sensorConfig: config, sys: sys, hub: sys.PID(program.Hub, "peer"), memory: all}
	}), "sensor")
	return err
}

// Receive implements actor.Actor.
func (s *sensor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		s.life = actors.Begin()
		s.report(ctx)
		life, every, root, self := s.life, s.every, s.sys.Root, ctx.Self()
		s.sys.Pumps.Go(func() { ticks(life, every, func() { root.Send(self, tick{life}) }) })
	case *actor.Stopping, *actor.Restarting:
		s.life.End()
	case tick:
		if msg.Of(s.life) {
			s.report(ctx)
		}
	case *Command:
		s.command(ctx, msg)
	case carried:
		if msg.Of(s.life) {
			s.done = s.now.ID
			s.now = nil
			s.report(ctx)
			if next := s.kept; next != nil {
				s.kept = nil
				s.command(ctx, next)
			}
		}
	}
}

// ticks is a pump: the clock.
func ticks(life actors.Life, every time.Duration, tell func()) {
	clock := time.NewTicker(every)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
			tell()
		case <-life.Context().Done():
			return
		}
	}
}

func (s *sensor) report(ctx actor.Context) {
	s.reports++
	ctx.Request(s.hub, &Report{Number: s.reports, Value: s.read(), Done: s.done})
}

func (s *sensor) command(ctx actor.Context, c *Command) {
	switch {
	case c.ID == s.done:
		s.report(ctx) // the hub does not know yet
	case s.now == nil:
		s.now = c
		carry, life, root, self := s.carry, s.life, s.sys.Root, ctx.Self()
		s.sys.Pumps.Go(func() {
			carry(life.Context(), c.Do)
			root.Send(self, carried{life})
		})
	case c.ID != s.now.ID:
		s.kept = c
	}
}
