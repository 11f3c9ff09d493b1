package actorstest_test

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors/actorstest"
)

// greeter is what is tested: it answers "hi" to its peers.
func greeter() actor.Actor {
	return actor.ReceiveFunc(func(ctx actor.Context) {
		if name, ok := ctx.Message().(*wrapperspb.StringValue); ok {
			ctx.Respond(wrapperspb.String("hi " + name.GetValue()))
		}
	})
}

func Example() {
	t := &recorder{} // in a test, t is its *testing.T
	failed := t.run(func(t actorstest.TB) {
		n := actorstest.NewNet(t, "alice", "bob")
		alice, bob := n.System("alice"), n.System("bob")
		pid, err := bob.Spawn(bob.Props(greeter), "greeter")
		if err != nil {
			t.Fatalf("%v", err)
		}
		bob.Export("greeter", pid)

		p := actorstest.NewProbe(t, alice)
		p.Watch(alice.PID("bob", "greeter"))
		p.Request(alice.PID("bob", "greeter"), wrapperspb.String("alice"))
		fmt.Println(actorstest.Expect[*wrapperspb.StringValue](p).GetValue())

		n.Restart("bob")
		fmt.Println(p.ExpectTerminated(alice.PID("bob", "greeter")).GetWhy())
	})
	fmt.Printf("failed: %q\n", failed)
	// Output:
	// hi alice
	// AddressTerminated
	// failed: ""
}
