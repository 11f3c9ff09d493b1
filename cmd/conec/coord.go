package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/admin"
	"github.com/conec-go/conec/coord/policy"
)

// closeTimeout limits how long a coordinator takes to say goodbye.
const closeTimeout = 10 * time.Second

// coordFlags are the flags of conec coord.
type coordFlags struct {
	addr, alternate, tcp, data, clientCA, policy, log string
	revoked                                           string
	admin, adminToken                                 string
	profile                                           bool
	drain                                             time.Duration
	metrics                                           http.Handler
	hosts                                             []string
	retry                                             bool
	limits                                            coord.Limits
	stats                                             time.Duration
}

func parseCoord(args []string, std streams) (*coordFlags, error) {
	f := &coordFlags{}
	flags := flag.NewFlagSet("coord", flag.ContinueOnError)
	flags.StringVar(&f.addr, "addr", ":"+strconv.Itoa(coord.DefaultPort), "UDP address to listen on")
	flags.StringVar(&f.tcp, "tcp", "", "TCP `address` for clients whose network blocks UDP, or none (default that of UDP)")
	flags.StringVar(&f.alternate, "alternate", "", "second UDP `address`, at which clients find out what NAT they are behind; that of UDP with the next port if empty, \"none\" for none")
	flags.StringVar(&f.data, "data", "", "`directory` for certificates (default conec/coordinator in the user's configuration)")
	flags.Func("host", "`name` or address by which clients reach this host, for the certificate; may be repeated",
		func(host string) error { f.hosts = append(f.hosts, host); return nil })
	flags.StringVar(&f.clientCA, "client-ca", "", "PEM `file` of the authorities that must vouch for clients (default: any key may take a free name)")
	flags.StringVar(&f.policy, "policy", "", "YAML `file` that says who may attach and do what; read again on SIGHUP (default: all is allowed)")
	flags.StringVar(&f.admin, "admin", "", "TCP `address` of the admin endpoint, such as "+admin.DefaultAddr+" (default none)")
	flags.StringVar(&f.adminToken, "admin-token", "", "`token` that the admin endpoint wants, at least 16 bytes (default CONEC_ADMIN_TOKEN)")
	flags.BoolVar(&f.profile, "admin-profile", false, "let the admin endpoint show profiles, at /debug/pprof")
	flags.DurationVar(&f.drain, "drain", 0, "on SIGTERM or SIGINT, send clients away one after the other for so `long` (default all at once)")
	flags.StringVar(&f.revoked, "revoked", "", "`file` with fingerprints of certificates or keys that are refused, one in a line; SIGHUP has it read again")
	flags.BoolVar(&f.retry, "retry", false, "let clients prove their address before anything is kept for them; one more round trip")
	flags.IntVar(&f.limits.Clients, "clients", 0, "how many clients may be attached (default 10000)")
	flags.Int64Var(&f.limits.RelayRate, "relay-rate", 0, "bytes per second that one end of a channel may send over the relay (default not limited)")
	flags.Int64Var(&f.limits.RelayClientRate, "relay-client-rate", 0,
		"bytes per second that a client may send over the relay, and be sent, on all channels; they share it evenly (default not limited)")
	flags.Int64Var(&f.limits.RelayTotalRate, "relay-total-rate", 0,
		"bytes per second that all clients may send over the relay; they share it evenly (default not limited)")
	flags.StringVar(&f.log, "log", "warn", "log `level`: debug, info, warn or error")
	flags.DurationVar(&f.stats, "stats", 0, "how often to log counters (default never)")
	if err := parse(flags, "conec coord [flags]: run a coordinator until SIGINT or SIGTERM", args, std); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%w: coord: unexpected argument %q", errUsage, flags.Arg(0))
	}
	f.adminToken = cmp.Or(f.adminToken, os.Getenv("CONEC_ADMIN_TOKEN"))
	if err := (&admin.Config{Addr: f.admin, Token: f.adminToken}).Validate(); f.admin != "" && err != nil {
		return nil, fmt.Errorf("%w: coord: -admin: %w", errUsage, err)
	}
	if f.drain < 0 {
		return nil, fmt.Errorf("%w: coord: -drain is %v: want more than 0", errUsage, f.drain)
	}
	if f.stats < 0 {
		return nil, fmt.Errorf("%w: coord: -stats is %v: want more than 0", errUsage, f.stats)
	}
	return f, nil
}

// runCoord runs a coordinator until ctx ends.
func runCoord(ctx context.Context, args []string, std streams) error {
	if len(args) > 0 && args[0] == "check" {
		return runCheck(args[1:], std)
	}
	f, err := parseCoord(args, std)
	if err != nil {
		return err
	}
	config, err := f.config(std)
	if err != nil {
		return err
	}
	keyLog, err := openKeyLog()
	if err != nil {
		return err
	}
	if keyLog != nil {
		defer keyLog.Close()
		config.KeyLog = keyLog
	}
	if err := config.Validate(); err != nil {
		return fmt.Errorf("%w: coord: %w", errUsage, err)
	}
	if config.Identity, err = f.identity(); err != nil {
		return err
	}
	c, err := coord.Start(ctx, config)
	if err != nil {
		return err
	}
	if f.admin != "" {
		a, err := admin.Serve(c, &admin.Config{
			Addr: f.admin, Token: f.adminToken, Profile: f.profile, Metrics: f.metrics, Logger: config.Logger,
		})
		if err != nil {
			return errors.Join(err, c.Close(ctx))
		}
		defer closeAdmin(a)
		fmt.Fprintf(std.out, "admin endpoint on %s\n", a.Addr())
	}
	f.announce(std, c)
	defer reloading(ctx, func() {
		if err := f.reload(ctx, c); err != nil {
			config.Logger.Error("not reloaded", "err", err)
		}
		if f.policy != "" {
			f.reloadPolicy(ctx, c, config.Logger, std)
		}
	})()
	if f.stats > 0 {
		logStats(ctx, config.Logger, c, f.stats)
	}
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.drain+closeTimeout)
	defer cancel()
	if f.drain > 0 {
		if err := c.Drain(closing, f.drain); err != nil {
			config.Logger.Warn("not all clients were sent away", "err", err)
		}
	}
	return c.Close(closing)
}

// closeAdmin ends the admin endpoint. Who still asks for something has had its time.
func closeAdmin(a *admin.Admin) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.Close(ctx) // the end of the coordinator tells
}

// config is what the flags say, without the certificate.
func (f *coordFlags) config(std streams) (*coord.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.log)); err != nil {
		return nil, fmt.Errorf("%w: coord: -log %q: want debug, info, warn or error", errUsage, f.log)
	}
	if f.stats > 0 {
		level = min(level, slog.LevelInfo)
	}
	config := &coord.Config{
		Addr: f.addr, Alternate: f.alternate, TCPAddr: f.tcp, StatelessRetry: f.retry,
		Limits: f.limits,
		Logger: slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level})),
	}
	if f.admin != "" {
		var err error
		if config.Meters, f.metrics, err = admin.NewMeters(); err != nil {
			return nil, err
		}
	}
	if f.clientCA != "" {
		roots, err := readRoots(f.clientCA)
		if err != nil {
			return nil, fmt.Errorf("-client-ca: %w", err)
		}
		config.ClientRoots = roots
	}
	if f.policy != "" {
		rules, err := policy.Load(f.policy)
		if err != nil {
			return nil, fmt.Errorf("%w:\n%w", errPolicy, err)
		}
		config.Policy = rules
	}
	var err error
	config.Revoked, err = readRevoked(f.revoked)
	return config, err
}

// identity loads or makes the certificate.
func (f *coordFlags) identity() (*coord.Identity, error) {
	if f.data == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("%w: give -data: %w", errUsage, err)
		}
		f.data = filepath.Join(dir, "conec", "coordinator")
	}
	identity, err := dataDir{f.data, time.Now()}.identity(hostsOf(f.hosts))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return identity, nil
}

// announce prints how to join. Scripts read these lines.
func (f *coordFlags) announce(std streams, c *coord.Coordinator) {
	addr := c.Addr()
	host := addr.Addr().String()
	switch {
	case len(f.hosts) > 0:
		host = f.hosts[0]
	case addr.Addr().IsUnspecified():
		host = publicHost()
	}
	public := net.JoinHostPort(host, strconv.Itoa(int(addr.Port())))
	tcp := ""
	switch at := c.TCPAddr(); {
	case !at.IsValid():
		tcp = " (UDP only)"
	case at.Port() != addr.Port():
		tcp = fmt.Sprintf(" (TCP on %s: clients need -tcp HOST:%d)", at, at.Port())
	}
	fmt.Fprintf(std.out, "coordinator on %s%s, certificates in %s\n", addr, tcp, f.data)
	fmt.Fprintf(std.out, "fingerprint %s\n", c.AuthorityFingerprint())
	fmt.Fprintf(std.out, "join with: conec pipe -coordinator %s -fingerprint %s -name NAME PEER\n", public, c.AuthorityFingerprint())
}

// logStats logs counters until ctx ends.
func logStats(ctx context.Context, logger *slog.Logger, c *coord.Coordinator, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s := c.Stats()
			dropped := s.Relay.Dropped
			logger.Info("stats", "connections", s.Connections, "attached", s.Attached, "refused", s.Refused,
				"tcp", s.TCP.Open, "channels", s.Channels, "introductions", s.Introductions,
				"relayed_packets", s.Relay.Forwarded.Packets, "relayed_bytes", s.Relay.Forwarded.Bytes,
				"unproven", dropped.Unproven, "unknown", dropped.Unknown, "rate_limited", dropped.RateLimited)
		case <-ctx.Done():
			return
		}
	}
}

// readRoots reads certificates of authorities.
func readRoots(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", name)
	}
	return roots, nil
}
