package main

import "github.com/go-gl/glfw/v3.4/glfw"

// keepKeyboard has windows that come up leave the keyboard where it is, so that nobody
// types into a prompt. The toolkit does not let a program choose this; the library below
// it does, for all windows that are made from then on. It must be called on the
// toolkit's goroutine, once that has begun.
func keepKeyboard() { glfw.WindowHint(glfw.FocusOnShow, glfw.False) }
