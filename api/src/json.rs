//! `google.protobuf.Struct` to and from `serde_json`: resources are typed Rust values on the machine, JSON for people.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Proto};
use serde_json::{Map, Number, Value};

/// Largest whole number that the double in a protobuf value holds exactly: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// An object as a Struct. Numbers become doubles: whole ones beyond 2^53 lose digits, so such fields travel as text.
pub fn to_struct(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(name, value)| (name, to_proto(value))).collect() }
}

/// A Struct as an object, keys sorted. Whole numbers become integers, so that `3` does not read `3.0`.
pub fn from_struct(from: Struct) -> Map<String, Value> {
    from.fields.into_iter().map(|(name, value)| (name, from_proto(value))).collect()
}

/// Any JSON value as a protobuf value.
pub fn to_proto(value: Value) -> Proto {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(to_proto).collect() }),
        Value::Object(value) => Kind::StructValue(to_struct(value)),
    };
    Proto { kind: Some(kind) }
}

/// A protobuf value as JSON. One without a kind, and numbers that JSON has not (NaN, infinities), become null.
pub fn from_proto(value: Proto) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(from_proto).collect()),
        Some(Kind::StructValue(value)) => Value::Object(from_struct(value)),
    }
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
        Value::Number(Number::from(value as i64))
    } else {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1_i64 << 53)..=(1_i64 << 53)).prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_as_it_went(value in values()) {
            prop_assert_eq!(from_proto(to_proto(value.clone())), value);
        }
    }

    #[test]
    fn fractions_stay_and_whole_doubles_become_integers() {
        assert_eq!(from_proto(to_proto(json!([0.5, 3.0, 1e300]))), json!([0.5, 3, 1e300]));
    }

    #[test]
    fn what_json_has_not_becomes_null() {
        assert_eq!(from_proto(Proto { kind: Some(Kind::NumberValue(f64::INFINITY)) }), Value::Null);
        assert_eq!(from_proto(Proto { kind: None }), Value::Null);
    }
}
