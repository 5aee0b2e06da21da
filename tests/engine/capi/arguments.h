/* The parts of the program `arguments`. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "world.h"

void expect(int32_t wanted, int32_t code, const pnp_ovss_error *error, const char *what);
int32_t use_settings(int use, const pnp_ovss_settings *settings, pnp_ovss_error *told);

void struct_sizes(struct world *world);
void names_and_tokens(struct world *world, const char *other_folder);
void devices_and_folders(struct world *world);

#endif
