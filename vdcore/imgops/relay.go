package imgops

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// runner brings items of a relay on their way. Each goroutine has its own.
type runner[T any] interface {
	before(item *T) error // while others are at work
	turn(item *T) error   // alone, in the order of the items
	after(item *T) error  // while others are at work
}

// relay has the items that feed sends brought on their way by all processors. It
// stops at the first error, and when ctx ends; send returns false then.
func relay[T any](ctx context.Context, feed func(ctx context.Context, send func(T) bool) error, newRunner func() runner[T]) error {
	return relayOf(ctx, 2*runtime.GOMAXPROCS(0), feed, newRunner)
}

// relayOf is relay with so many runners.
func relayOf[T any](ctx context.Context, n int, feed func(ctx context.Context, send func(T) bool) error, newRunner func() runner[T]) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan leg[T])
	var runners sync.WaitGroup
	for range n {
		runners.Go(func() {
			r := newRunner()
			for l := range queue {
				if err := l.run(ctx, r); err != nil {
					cancel(err)
				}
			}
		})
	}
	turn := make(chan struct{})
	close(turn)
	err := feed(ctx, func(item T) bool {
		next := make(chan struct{})
		select {
		case queue <- leg[T]{item, turn, next}:
			turn = next
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(queue)
	runners.Wait()
	return errors.Join(err, context.Cause(ctx))
}

// leg is an item and its place in the order.
type leg[T any] struct {
	item T
	turn <-chan struct{} // closed when the item before has had its turn
	next chan struct{}
}

func (l *leg[T]) run(ctx context.Context, r runner[T]) error {
	if ctx.Err() != nil {
		return nil
	}
	if err := r.before(&l.item); err != nil {
		return err
	}
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil // after an error nobody has a turn any more
	}
	if err := r.turn(&l.item); err != nil {
		return err
	}
	close(l.next)
	return r.after(&l.item)
}
