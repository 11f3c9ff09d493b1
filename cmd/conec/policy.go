package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
)

// runCheck says what a policy file allows, or what is wrong with it.
func runCheck(args []string, std streams) error {
	var question policy.Question
	flags := flag.NewFlagSet("coord check", flag.ContinueOnError)
	flags.StringVar(&question.Who, "who", "", "`name` of a client: what may it do?")
	flags.StringVar(&question.Peer, "peer", "", "with -who: `name` of another client, to which it may do what?")
	flags.StringVar(&question.Group, "group", "", "with -who: `name` of a group")
	if err := parse(flags, "conec coord check [flags] FILE: say what a policy file allows, or what is wrong with it", args, std); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%w: coord check: want one FILE, after the flags", errUsage)
	}
	if question.Who == "" && question.Peer+question.Group != "" {
		return fmt.Errorf("%w: coord check: -peer and -group need -who", errUsage)
	}
	for _, name := range []string{question.Who, question.Peer} {
		if err := messages.CheckName(name); name != "" && err != nil {
			return fmt.Errorf("%w: coord check: %w", errUsage, err)
		}
	}
	rules, err := policy.Load(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("%w:\n%w", errPolicy, err)
	}
	lines := rules.Explain()
	if question.Who != "" {
		lines = rules.Answer(question)
	}
	for _, line := range lines {
		fmt.Fprintln(std.out, line)
	}
	return nil
}

// reloadPolicy reads the policy file again. One that is wrong changes nothing.
func (f *coordFlags) reloadPolicy(ctx context.Context, c *coord.Coordinator, logger *slog.Logger, std streams) {
	rules, err := policy.Load(f.policy)
	if err == nil {
		err = c.SetPolicy(ctx, rules)
	}
	if err != nil {
		logger.Error("policy not read, the former one stays in force", "file", f.policy, "err", err)
		fmt.Fprintf(std.err, "conec: %v, the former one stays in force:\n%v\n", errPolicy, err)
		return
	}
	fmt.Fprintf(std.err, "conec: policy in %s is in force\n", f.policy)
}
