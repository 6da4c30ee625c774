// Package window is what is in the agent's windows: the prompt, the code, the
// devices, the first start. It draws with the toolkit's widgets and never opens a
// window itself, so all of it can be drawn and looked at without a screen.
//
// # What it sees to
//
//   - Allow and Don't Allow are alike in size, colour and reach, and neither is
//     chosen when the window comes up.
//   - Other people's words are in quotation marks, on lines of their own beside a
//     label, in a column where no words of the window's own begin. What a prompt says
//     is never inside a sentence of the window's.
//   - All of a prompt is in the window at once, however long its names are, or it
//     cannot be allowed. Letters that have no room are written by their numbers.
//   - Lines are broken, ordered and drawn here, piece by piece, because the toolkit
//     orders mixed directions by the fonts they are in.
//   - Everything that the person is told comes from the message files.
package window
