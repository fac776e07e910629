//! What the application gives its handlers: one value per type.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use goose_core::{Error, ErrorKind, Result};

/// Values by their types.
#[derive(Clone, Default)]
pub(crate) struct StateMap(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl StateMap {
    /// Adds a value; a second one of the same type is a mistake, for nobody could get at the first.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Result<()> {
        if !self.replace(value) {
            return Ok(());
        }
        let name = type_name::<T>();
        let message = format!("state of type `{name}` is given twice, wrap one of them in a type of its own");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// Puts a value in the place of one of its type, and says whether there was one.
    pub(crate) fn replace<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.0.insert(TypeId::of::<T>(), Arc::new(value)).is_some()
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        let value = self.0.get(&TypeId::of::<T>()).cloned();
        value.and_then(|value| value.downcast().ok()).ok_or_else(|| {
            let name = type_name::<T>();
            let message = format!("the worker has no state of type `{name}`, add it with `WorkerBuilder::state`");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMap({} values)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_type() {
        let mut state = StateMap::default();
        state.insert(7_u32).unwrap();
        state.insert("text").unwrap();
        assert_eq!((*state.get::<u32>().unwrap(), *state.get::<&str>().unwrap()), (7, "text"));
    }

    #[test]
    fn a_missing_and_a_doubled_value_are_named() {
        let mut state = StateMap::default();
        let error = state.get::<u32>().unwrap_err();
        let missing = "the worker has no state of type `u32`, add it with `WorkerBuilder::state`";
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, missing));
        state.insert(1_u32).unwrap();
        let error = state.insert(2_u32).unwrap_err();
        assert_eq!(error.to_string(), "state of type `u32` is given twice, wrap one of them in a type of its own");
    }
}
