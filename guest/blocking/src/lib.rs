//! Makes plain functions of asynchronous ones, for a platform whose effects
//! block: there nothing is ever pending, and the state machines would be a tenth
//! of the component.

use proc_macro::{Group, TokenStream, TokenTree};

/// Takes every `async` and `.await` out of what it stands on.
#[proc_macro_attribute]
pub fn blocking(_: TokenStream, item: TokenStream) -> TokenStream {
    without_async(item)
}

fn without_async(tokens: TokenStream) -> TokenStream {
    let is = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
    let mut kept = Vec::new();
    for token in tokens {
        match token {
            token if is(&token, "async") => {}
            token if is(&token, "await") => {
                // The dot before it.
                kept.pop();
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_async(group.stream()));
                inner.set_span(group.span());
                kept.push(TokenTree::Group(inner));
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}
