package main

import "context"

func benchGrowth(ctx context.Context, s *stage) error { return nil }
func benchLog(ctx context.Context, s *stage) error    { return nil }

type Log struct{}
