// Fleet is a hub with sensors that come and go. They report readings; the hub has them carry out commands, keeps those for a
// sensor that is away, and knows of each in the end what has become of it. Without flags it shows all in one process; with
// -serve it is coordinator and hub, and takes an order from each line that is typed, such as "sensor-1 calibrate"; with
// -name sensor-1 it is a sensor.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

func main() { program.Main("fleet", run) }

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	fleet := program.Program{Messages: wire(), Story: story, Serve: serve, Join: join}
	return fleet.Run(ctx, args, in, out)
}

// serve gives each line as an order, until there are no more and all are carried out. If ctx ends before, it tells what has
// become of them.
func serve(ctx context.Context, cl *client.Client, in <-chan string, lines *program.Lines, ready func()) error {
	h, err := openHub(cl, func(event any) {
		if line := text(event); line != "" {
			lines.Printf("%s", line)
		}
	})
	if err != nil {
		return err
	}
	ready()
	err = program.Each(ctx, in, func(line string) {
		sensor, do, _ := strings.Cut(strings.TrimSpace(line), " ")
		h.order(sensor, do)
	})
	if err == nil {
		_, err = h.carriedOut(ctx)
	}
	orders, listErr := h.orders(context.WithoutCancel(ctx))
	if listErr != nil {
		return listErr
	}
	for _, o := range orders {
		lines.Printf("%s", o)
	}
	return err
}

// join is a sensor until ctx ends.
func join(ctx context.Context, cl *client.Client, _ <-chan string, lines *program.Lines) error {
	if err := startSensor(cl, sensorConfig{every: time.Second, read: temperature, carry: func(_ context.Context, do string) {
		lines.Printf("carries out %q", do)
	}}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// temperature is what sensors measure.
func temperature() float64 { return 20 + rand.Float64() }

// text is how an event is shown; empty if it is not.
func text(event any) string {
	switch event := event.(type) {
	case appeared:
		return event.sensor + " reports"
	case away:
		return event.sensor + " is away"
	case carriedOut:
		return fmt.Sprintf("%s has carried out %q", event.order.sensor, event.order.Do)
	}
	return ""
}

// String says what has become of an order.
func (o order) String() string {
	become := "carried out"
	switch {
	case o.done:
	case o.sent == 0:
		become = "kept until the sensor is there"
	default:
		become = "in doubt"
	}
	return fmt.Sprintf("%s %q: %s (sent %d, doubted %d)", o.sensor, o.Do, become, o.sent, o.doubts)
}

// story has two sensors carry out commands. One of them comes late, and is killed with a command in its hands.
func story(ctx context.Context, stage *program.Stage, lines *program.Lines) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cl, err := stage.Connect(ctx, program.Hub)
	if err != nil {
		return err
	}
	events := program.NewLines()
	h, err := openHub(cl, func(event any) { events.Printf("%s", text(event)) })
	if err != nil {
		return err
	}
	h.order("sensor-1", "calibrate")
	h.order("sensor-2", "calibrate")
	h.order("sensor-2", "open the valve")
	lines.Printf("three orders are given, to sensors that are not there yet")
	begin := func(name string, carry func(ctx context.Context, do string)) (*client.Client, error) {
		cl, err := stage.Connect(ctx, name)
		if err == nil {
			err = startSensor(cl, sensorConfig{every: 50 * time.Millisecond, read: temperature, carry: carry})
		}
		return cl, err
	}
	carry := func(context.Context, string) {}
	if _, err := begin("sensor-1", carry); err != nil {
		return err
	}
	second, err := begin("sensor-2", func(ctx context.Context, do string) {
		if do == "open the valve" {
			events.Printf("sensor-2 opens the valve, slowly")
			<-ctx.Done()
		}
	})
	if err == nil {
		err = events.Tell(ctx, lines, "opens the valve, slowly")
	}
	if err != nil {
		return err
	}
	lines.Printf("the process of sensor-2 is killed")
	second.Abort()
	if err := events.Tell(ctx, lines, "sensor-2 is away"); err != nil {
		return err
	}
	if _, err := begin("sensor-2", carry); err != nil {
		return err
	}
	orders, err := h.carriedOut(ctx)
	for _, o := range orders {
		lines.Printf("%s", o)
	}
	return err
}
