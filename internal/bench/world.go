package main

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Environment of a child: the system that it is an end of, and where its profiles go.
const (
	roleVar    = "CONEC_BENCH_ROLE"
	profileVar = "CONEC_BENCH_PROFILE"
)

// world is the processes of one measurement. With conec the host is the coordinator; with bare quic-go the receiver
// listens itself, or the sender if there are many receivers, so that and the host are the same process.
type world struct {
	host, receiver, sender *child
	place                  Place
	length                 time.Duration
	clients                int
	children               []*child
}

func newWorld(ctx context.Context, opts *options, e experiment, system string) (w *world, err error) {
	w = &world{length: opts.length, clients: opts.clients}
	defer func() {
		if err != nil {
			_ = w.close() // there is an error to tell already
			w = nil
		}
	}()
	start := func(role string) (*child, error) {
		profile := ""
		if opts.profile != "" {
			profile = filepath.Join(opts.profile, e.name+"-"+system+"-"+role)
		}
		c, err := startChild(ctx, system, role, profile, profile != "" && e.name == idleName)
		if err == nil {
			w.children = append(w.children, c)
		}
		return c, err
	}
	if w.host, err = start("host"); err != nil {
		return w, err
	}
	if err = w.host.call("Host", Nothing{}, &w.place); err != nil {
		return w, err
	}
	w.receiver, w.sender = w.host, w.host
	if e.streams && (e.many || system != bareSystem) {
		if w.receiver, err = start("receiver"); err != nil {
			return w, err
		}
		if err = w.receiver.call("Join", Join{At: w.place, Name: receiverName}, &Nothing{}); err != nil {
			return w, err
		}
	}
	if e.many && system == bareSystem {
		return w, nil
	}
	if w.sender, err = start("sender"); err != nil {
		return w, err
	}
	if e.streams {
		err = w.sender.call("Join", Join{At: w.place, Name: senderName}, &Nothing{})
	}
	return w, err
}

// invite makes clients at the sender that can attach.
func (w *world) invite(count int) error {
	return w.sender.call("Invite", Invite{At: w.place, Count: count}, &Nothing{})
}

// memory is what the host and the sender hold now, in bytes, while the host has so many clients.
func (w *world) memory(clients int) (hostBytes, senderBytes int64, err error) {
	var host, sender Held
	err = errors.Join(w.host.call("Memory", Nothing{}, &host), w.sender.call("Memory", Nothing{}, &sender))
	if err == nil && host.Clients != clients {
		err = fmt.Errorf("the host has %d clients, want %d", host.Clients, clients)
	}
	return host.Bytes, sender.Bytes, err
}

func (w *world) close() error {
	var errs []error
	for _, c := range slices.Backward(w.children) {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// child is a process of this program.
type child struct {
	role string
	cmd  *exec.Cmd
	rpc  *rpc.Client
}

// startChild starts a process that ends when ctx does. heap says that the profile of its heap is wanted in detail, which
// makes it slow.
func startChild(ctx context.Context, system, role, profile string, heap bool) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), roleVar+"="+system, profileVar+"="+profile,
		"QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	if heap {
		cmd.Env = append(cmd.Env, "GODEBUG=memprofilerate=4096") // bytes between samples
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{role: role, cmd: cmd, rpc: jsonrpc.NewClient(pipes{out, in})}, nil
}

// begin lets the child do something. The returned function waits for its end.
func (c *child) begin(method string, args, reply any) func() error {
	call := c.rpc.Go("End."+method, args, reply, make(chan *rpc.Call, 1))
	return func() error {
		if err := (<-call.Done).Error; err != nil {
			return fmt.Errorf("%s: %s: %w", c.role, method, err)
		}
		return nil
	}
}

func (c *child) call(method string, args, reply any) error {
	return c.begin(method, args, reply)()
}

// usage is the CPU time that the child has used.
func (c *child) usage() (used time.Duration, err error) {
	return used, c.call("Usage", Nothing{}, &used)
}

// stop closes the child's input, which ends it, and waits for it.
func (c *child) stop() error {
	_ = c.rpc.Close() // if it is closed already, the child's exit tells more
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return nil
}
