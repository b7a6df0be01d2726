//! A plugin of a platform, for the tests: honest in one half, a thief in the
//! other. Which half gets anywhere is for the platform's grants to say.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "tokenwell:test-plugins/plugin",
        generate_all,
    });
}

mod honest;
mod http;
mod thief;

struct Plugin;

bindings::export!(Plugin with_types_in bindings);
