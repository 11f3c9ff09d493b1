package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/conec-go/conec/coord/admin"
)

// adminFlags are the flags of the commands that speak to a coordinator's admin endpoint.
type adminFlags struct {
	addr, token string
	json        bool
	order       admin.Order
	lasts       time.Duration
	argument    string
}

// adminCommands says for each command what it does, whether it wants or takes an argument, and does it.
var adminCommands = map[string]struct {
	synopsis string
	argument string // what it is; in brackets if it may be left out
	run      func(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error
}{
	"status": {"conec status [flags]: say what a coordinator has, and who is attached", "", runStatus},
	"group":  {"conec group [flags] [NAME]: list a coordinator's groups, or who is in one", "[NAME]", runGroup},
	"kick":   {"conec kick [flags] NAME: disconnect a client, which may come back", "NAME", runKick},
	"ban":    {"conec ban [flags] [NAME]: keep clients away, by a name or pattern, -key and -address; without any, list the bans", "[NAME]", runBan},
	"unban":  {"conec unban [flags] [NAME]: lift the ban with this name, -key and -address", "[NAME]", runUnban},
	"drain":  {"conec drain [flags]: send all clients away and take no new ones", "", runDrain},
}

func parseAdmin(command string, args []string, std streams) (*adminFlags, error) {
	of := adminCommands[command]
	f := &adminFlags{}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.StringVar(&f.addr, "admin", cmp.Or(os.Getenv("CONEC_ADMIN"), admin.DefaultAddr), "`address` of the coordinator's admin endpoint")
	flags.StringVar(&f.token, "admin-token", "", "`token` of the admin endpoint (default CONEC_ADMIN_TOKEN)")
	switch command {
	case "status", "group":
		flags.BoolVar(&f.json, "json", false, "print JSON")
	case "kick":
		flags.StringVar(&f.order.Reason, "reason", "", "`why`, for the client")
	case "ban", "unban":
		flags.StringVar(&f.order.Key, "key", "", "`fingerprint` of a certificate or public key: sha256: and 64 hex digits")
		flags.StringVar(&f.order.Address, "address", "", "`address` or prefix, such as 192.0.2.0/24")
		if command == "ban" {
			flags.StringVar(&f.order.Reason, "reason", "", "`why`, for the clients")
			flags.DurationVar(&f.lasts, "for", 0, "how long (default for good, or until the coordinator ends)")
		}
	case "drain":
		flags.DurationVar(&f.lasts, "over", 10*time.Second, "in how much time, one client after the other")
	}
	if err := parse(flags, of.synopsis, args, std); err != nil {
		return nil, err
	}
	most := 0
	if of.argument != "" {
		most = 1
	}
	if flags.NArg() > most || flags.NArg() == 0 && strings.HasPrefix(of.argument, "N") {
		return nil, fmt.Errorf("%w: %s: want %s, after the flags", errUsage, command, cmp.Or(of.argument, "no argument"))
	}
	if f.lasts < 0 {
		return nil, fmt.Errorf("%w: %s: a time of %v: want more than 0", errUsage, command, f.lasts)
	}
	f.argument = flags.Arg(0)
	f.order.Name, f.order.Seconds = f.argument, f.lasts.Seconds()
	f.token = cmp.Or(f.token, os.Getenv("CONEC_ADMIN_TOKEN"))
	return f, nil
}

// runAdmin runs one of the commands above.
func runAdmin(ctx context.Context, command string, args []string, std streams) error {
	f, err := parseAdmin(command, args, std)
	if err != nil {
		return err
	}
	return adminCommands[command].run(ctx, f, &admin.Client{Addr: f.addr, Token: f.token}, std.out)
}

// statusReport is what conec status prints as JSON.
type statusReport struct {
	admin.Status
	Clients any
}

func runStatus(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	clients, err := c.Clients(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(out, statusReport{status, clients})
	}
	s := status.Stats
	fmt.Fprintf(out, "coordinator on %s, TCP %s\nfingerprint %s\n", status.Addr, cmp.Or(status.TCPAddr, "off"), status.Authority)
	if s.Draining {
		fmt.Fprintln(out, "draining")
	}
	fmt.Fprintf(out, "%d clients, %d channels, %d groups; %d introductions and %d refused since the start\n",
		s.Attached, s.Channels, s.Groups, s.Introductions, s.Refused)
	fmt.Fprintf(out, "relayed %d packets, %d bytes\n", s.Relay.Forwarded.Packets, s.Relay.Forwarded.Bytes)
	if len(clients) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNAME\tADDRESS\tSINCE\tCHANNELS\tRELAYED BYTES, SENT\tRECEIVED")
	for _, client := range clients {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\n", client.Name, client.Addr, client.Since.UTC().Format(time.RFC3339),
			len(client.Channels), client.Relay.Sent.Bytes, client.Relay.Received.Bytes)
	}
	return table.Flush()
}

func runGroup(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	groups, err := c.Groups(ctx)
	if err != nil {
		return err
	}
	if f.argument == "" && f.json {
		return printJSON(out, groups)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if f.argument == "" {
		fmt.Fprintln(table, "GROUP\tMEMBERS\tMESSAGES\tKEPT\tMADE BY")
		for _, group := range groups {
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\n", group.Name, len(group.Members), group.Messages, group.Kept, group.Maker)
		}
		return table.Flush()
	}
	for _, group := range groups {
		if group.Name != f.argument {
			continue
		}
		if f.json {
			return printJSON(out, group)
		}
		fmt.Fprintln(table, "MEMBER\tSENDS\tRECEIVES")
		for _, member := range group.Members {
			fmt.Fprintf(table, "%s\t%v\t%v\n", member.Name, member.Sends, member.Receives)
		}
		return table.Flush()
	}
	return fmt.Errorf("no group %q", f.argument)
}

func runKick(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	_, err := c.Kick(ctx, f.order)
	if err == nil {
		fmt.Fprintf(out, "%s was disconnected\n", f.argument)
	}
	return err
}

func runBan(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	if f.argument+f.order.Key+f.order.Address == "" {
		return listBans(ctx, c, out)
	}
	removed, err := c.Ban(ctx, f.order)
	if err == nil {
		fmt.Fprintf(out, "banned; %d clients were disconnected\n", removed)
	}
	return err
}

func listBans(ctx context.Context, c *admin.Client, out io.Writer) error {
	bans, err := c.Bans(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tKEY\tADDRESS\tUNTIL\tREASON")
	for _, ban := range bans {
		address, until := "", "lifted"
		if ban.Addr.IsValid() {
			address = ban.Addr.String()
		}
		if !ban.Until.IsZero() {
			until = ban.Until.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", ban.Name, ban.Key, address, until, ban.Reason)
	}
	return table.Flush()
}

func runUnban(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	_, err := c.Unban(ctx, f.order)
	if err == nil {
		fmt.Fprintln(out, "the ban is lifted")
	}
	return err
}

func runDrain(ctx context.Context, f *adminFlags, c *admin.Client, out io.Writer) error {
	clients, err := c.Drain(ctx, f.order)
	if err == nil {
		fmt.Fprintf(out, "draining: %d clients in %v\n", clients, f.lasts)
	}
	return err
}
