package main

import "github.com/go-gl/glfw/v3.4/glfw"

// The toolkit lets no program choose whether a new window takes the keyboard. The
// library below it does, for all windows that are made from then on. Both functions
// must be called on the toolkit's goroutine once it has begun.

// keepKeyboard has windows that are made next leave the keyboard where it is, so that
// nobody types into a prompt that comes up.
func keepKeyboard() { glfw.WindowHint(glfw.FocusOnShow, glfw.False) }

// takeKeyboard has windows that are made next take it.
func takeKeyboard() { glfw.WindowHint(glfw.FocusOnShow, glfw.True) }
