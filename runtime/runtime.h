/* runtime: a model at work. The door of the room: rooms above include this. */
#ifndef RT_RUNTIME_H
#define RT_RUNTIME_H

#include "runtime/batch.h"
#include "runtime/lookup.h"
#include "runtime/pack.h"
#include "runtime/point.h"
#include "runtime/sampler.h"
#include "runtime/session.h"
#include "runtime/speculation.h"
#include "runtime/team.h"
#include "runtime/tokenizer.h"

#endif
