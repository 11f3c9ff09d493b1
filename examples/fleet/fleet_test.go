package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/exampletest"
	"github.com/conec-go/conec/examples/internal/program"
	"github.com/conec-go/conec/sim"
)

// TestProgram runs the program on loopback.
func TestProgram(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), nil, nil, &out); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	for _, line := range []string{
		`sensor-1 "calibrate": carried out (sent 1, doubted 0)`,
		`sensor-2 "calibrate": carried out (sent 1, doubted 0)`,
		`sensor-2 "open the valve": carried out (sent `,
	} {
		if strings.Count(out.String(), line) != 1 {
			t.Errorf("printed\n%s, want one %q", out.String(), line)
		}
	}
	if strings.Contains(out.String(), `valve": carried out (sent 1, `) {
		t.Errorf("printed\n%s, want that the last order was in doubt", out.String())
	}
}

// TestProcesses has each part of the program run as a process of its own does.
func TestProcesses(t *testing.T) {
	parts := exampletest.Serve(t, run)
	hub, expect := parts.Hub, parts.Expect
	parts.Type(hub, "sensor-1 calibrate", "sensor-2 open the valve")
	first := parts.Join("sensor-1")
	expect(first, `carries out "calibrate"`)
	expect(hub, `sensor-1 has carried out "calibrate"`)
	if err := first.Interrupt(); err != nil {
		t.Errorf("sensor-1: %v", err)
	}
	expect(hub, "sensor-1 is away")
	parts.Type(hub, "sensor-1 measure")
	first, second := parts.Join("sensor-1"), parts.Join("sensor-2")
	expect(first, `carries out "measure"`)
	expect(second, `carries out "open the valve"`)
	parts.Type(hub, "sensor-3 measure") // which never comes
	parts.EndInput(hub)
	for range 2 {
		expect(hub, "has carried out")
	}
	if err := hub.Interrupt(); err != nil {
		t.Errorf("hub: %v", err)
	}
	for _, line := range []string{
		`sensor-1 "calibrate": carried out (sent 1, doubted 0)`, `sensor-2 "open the valve": carried out (sent 1, doubted 0)`,
		`sensor-1 "measure": carried out (sent 1, doubted 0)`, `sensor-3 "measure": kept until the sensor is there (sent 0, doubted 0)`,
	} {
		expect(hub, line)
	}
	if err := second.Interrupt(); err != nil {
		t.Errorf("sensor-2: %v", err)
	}
}

// TestDevice plays what the hub knows of a sensor, without a network.
func TestDevice(t *testing.T) {
	first, second := actor.NewPID("conec/sensor-1~1", "sensor"), actor.NewPID("conec/sensor-1~2", "sensor")
	a, b := &order{Command: Command{ID: "a"}}, &order{Command: Command{ID: "b"}}
	d := &device{orders: []*order{a, b}}
	sends := func(step string, want *order) {
		t.Helper()
		if got := d.next(); got != want {
			t.Errorf("%s: it sends %v, want %v", step, got, want)
		}
	}
	sends("nobody is there", nil)
	d.spoke(first, "")
	sends("it is there", a)
	sends("the first is under way", nil)
	d.confirmed("a", first, nil)
	d.spoke(first, "")
	sends("the first has arrived", nil)
	d.absent()
	if done := d.spoke(first, "a"); done != a || !a.done {
		t.Errorf("carried out %v, want %v", done, a)
	}
	sends("the first is carried out", b)
	d.confirmed("b", first, actors.ErrPeerUnreachable)
	sends("it is away", nil)
	d.spoke(first, "a")
	sends("it is back", b)
	d.confirmed("a", first, actors.ErrPeerGone)
	sends("what is heard late", nil)
	d.spoke(second, "")
	sends("another process", b)
	d.confirmed("b", first, actors.ErrPeerGone)
	sends("what is heard of the former process", nil)
	if done := d.spoke(second, "b"); done != b || b.sent != 3 || b.doubts != 2 || a.sent != 1 || a.doubts != 0 || len(d.orders) != 0 {
		t.Errorf("%v and %v, left %v", a, b, d.orders)
	}
}

// TestCommandComesAgain has a hub send commands more often than once: each is carried out once, and every report tells the
// last one.
func TestCommandComesAgain(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
		codecs := exampletest.Codecs(w, wire())
		configure := func(c *client.Config) { c.Codecs = codecs }
		hub := w.Client(w.Host(program.Hub, w.Internet(), sim.Line{}), configure)
		sensor := w.Client(w.Host("sensor-1", w.Internet(), sim.Line{}), configure)
		script := map[string][]string{"": {"a", "a"}, "a": {"a", "b", "b", "c"}, "b": {"b"}} // what is sent when something is reported as done
		reports := make(chan *Report, 100)
		if err := hub.Actors().OnPeer(actors.PeerConfig{Props: func(string) *actor.Props {
			return actor.PropsFromFunc(func(ctx actor.Context) {
				if report, ok := ctx.Message().(*Report); ok {
					for _, id := range script[report.Done] {
						ctx.Request(ctx.Sender(), &Command{ID: id, Do: id})
					}
					delete(script, report.Done)
					reports <- report
				}
			})
		}}); err != nil {
			w.T.Fatal(err)
		}
		done := make(chan string, 100)
		if err := startSensor(sensor.Client, sensorConfig{
			every: time.Minute,
			read:  func() float64 { return 20 },
			carry: func(_ context.Context, do string) {
				<-time.After(time.Second)
				done <- do
			},
		}); err != nil {
			w.T.Fatal(err)
		}
		last := ""
		for last != "c" {
			last = (<-reports).Done
		}
		<-time.After(5 * time.Second) // nothing else is carried out
		if a, b, c := <-done, <-done, <-done; a+b+c != "abc" || len(done) > 0 {
			w.T.Errorf("carried out %s%s%s and %d more, want abc", a, b, c, len(done))
		}
	})
}

// execution is a command that a process was about to carry out.
type execution struct{ process, do string }

// TestOnTheRoad runs the same code in a simulated network, while orders are given: a sensor moves to another network and is
// cut off for longer than anybody waits, one crashes and comes back as another process, one is stopped in order and comes
// back later, and the coordinator restarts. At any of the seeds, each order is carried out, by no process twice, and by two
// processes only if the hub says that it was in doubt; and no report comes twice, or is lost while a process lives and is not
// cut off.
func TestOnTheRoad(t *testing.T) {
	exampletest.Play(t, func(w *sim.World) {
		fiber, mobile, lan := exampletest.Fiber, exampletest.Mobile, exampletest.LAN
		site := w.Gateway("site", w.Internet(), sim.PortRestricted(), fiber)
		lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), mobile)
		coordinator := w.Coordinator(w.Host("coordinator", w.Internet(), fiber), nil)
		codecs := exampletest.Codecs(w, wire())
		configure := func(c *client.Config) {
			c.Codecs = codecs
			c.KeepAlive, c.IdleTimeout, c.ResumeWait = 2*time.Second, 10*time.Second, 15*time.Second
		}
		hub := w.Client(w.Host(program.Hub, site, lan), configure)
		sensors := w.Clients(configure, w.Host("sensor-1", site, lan), w.Host("sensor-2", lte, lan), w.Host("sensor-3", w.Internet(), mobile))
		y := newYard(w, hub.Client)
		for _, cl := range sensors {
			y.start(cl, cl.Host().Name())
		}
		random := w.Rand()
		sometime := func() time.Duration { return exampletest.Sometime(random, 6*time.Second) }
		exampletest.Move(w, sometime(), sensors[0], lte, lan)
		exampletest.RestartCoordinator(w, sometime(), coordinator)
		w.After(sometime(), func() {
			heal := w.Add(func(p sim.Packet) sim.Verdict {
				if p.Source == "sensor-1" || p.Destination == "sensor-1" {
					return sim.Drop()
				}
				return sim.Verdict{}
			})
			w.After(30*time.Second, func() { heal() })
		})
		back := make(chan struct{}, 2)
		w.After(sometime(), func() {
			sensors[1].Crash()
			y.again(sensors[1], "sensor-2, second")
			back <- struct{}{}
		})
		w.After(sometime(), func() {
			if err := sensors[2].Stop(); err != nil {
				w.T.Errorf("stop: %v", err)
			}
			<-time.After(2 * time.Second)
			y.again(sensors[2], "sensor-3, second")
			back <- struct{}{}
		})
		for range 60 {
			y.order(sensors[random.IntN(len(sensors))].Host().Name())
			<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		}
		<-back
		<-back
		y.check()
	})
}

// yard is where sensors are, in a simulated network.
type yard struct {
	w       *sim.World
	hub     *hub
	reports chan reported
	done    chan execution
	given   int
}

// room is more than there are reports and executions.
const room = 100_000

func newYard(w *sim.World, cl *client.Client) *yard {
	y := &yard{w: w, reports: make(chan reported, room), done: make(chan execution, room)}
	var err error
	if y.hub, err = openHub(cl, func(event any) {
		if report, ok := event.(reported); ok {
			y.reports <- report
		}
	}); err != nil {
		w.T.Fatal(err)
	}
	return y
}

func (y *yard) order(sensor string) {
	y.given++
	y.hub.order(sensor, fmt.Sprintf("do %d", y.given))
}

// start starts a process of a sensor, which takes its time for each command.
func (y *yard) start(cl *sim.Client, process string) {
	pace := rand.New(rand.NewPCG(uint64(len(process)), uint64(process[7])))
	if err := startSensor(cl.Client, sensorConfig{
		every: 100 * time.Millisecond,
		read:  func() float64 { return 20 },
		carry: func(ctx context.Context, do string) {
			y.done <- execution{process, do}
			select {
			case <-time.After(time.Duration(pace.Int64N(int64(200 * time.Millisecond)))):
			case <-ctx.Done():
			}
		},
	}); err != nil {
		y.w.T.Error(err)
	}
}

// again starts another process of a sensor.
func (y *yard) again(cl *sim.Client, process string) {
	if exampletest.StartAgain(cl) {
		y.start(cl, process)
	}
}

// check waits until everything is carried out, and checks by whom.
func (y *yard) check() {
	y.w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	orders, err := y.hub.carriedOut(ctx)
	if err != nil || len(orders) != y.given {
		list, _ := y.hub.orders(context.Background()) // the system is there
		y.w.T.Fatalf("%d orders, want %d: %v\n%v", len(orders), y.given, err, list)
	}
	by := map[string][]string{}
	for len(y.done) > 0 {
		one := <-y.done
		by[one.do] = append(by[one.do], one.process)
	}
	for _, o := range orders {
		processes := by[o.Do]
		first, second := o.sensor, o.sensor+", second"
		switch {
		case len(processes) == 1:
		case len(processes) == 2 && processes[0] == first && processes[1] == second && o.doubts > 0:
		default:
			y.w.T.Errorf("%v: carried out by %q", o, processes)
		}
	}
	last := map[string]int{}
	for len(y.reports) > 0 {
		one := <-y.reports
		process, number := one.process.String(), one.report.Number
		if number <= last[process] || number > last[process]+1 && one.sensor != "sensor-1" {
			y.w.T.Errorf("%s: report %d came after %d", process, number, last[process])
		}
		last[process] = number
	}
	if len(last) != 5 {
		y.w.T.Errorf("%d processes have reported, want 5: %v", len(last), last)
	}
}
