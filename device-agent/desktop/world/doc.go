// Package world knows roughly where places are, and draws a small map of one.
//
// It is for the eye only: the place that a prompt names in words is what is signed,
// and what this package makes of it is a help to read it. It knows the cities and
// countries of its files; what it does not know it says so about, and never
// guesses. Nothing is fetched.
//
// The data is from Natural Earth (naturalearthdata.com), at the scale of
// 1:110,000,000, which is in the public domain:
//
//	countries.json  Admin 0 countries 4.1, as shared arcs, quantized, from the npm
//	                package world-atlas 2.0.2 with all but names and outlines left out
//	places.txt      Populated places (243), from its geojson, to 0.01 degrees; and
//	                other names of countries and places, some added here
//
// Natural Earth draws the borders as they are held in fact, which in some places
// is disputed.
package world
