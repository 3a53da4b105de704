package main

import "context"

func (b *bench) webrtc(context.Context) error { return nil }
func (b *bench) agents(context.Context) error { return nil }
func (b *bench) growth(context.Context) error { return nil }
func (b *bench) turn(context.Context) error   { return nil }
