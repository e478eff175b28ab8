//! The layer that turns events into lines.

use jiff::Zoned;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::Format;
use crate::fields::Fields;
use crate::handle::Threshold;
use crate::level::Level;
use crate::line::Line;
use crate::sink::Sink;
use crate::{json, text};

/// What the names of our own crates begin with. Details of other crates are noise below `trace`.
const OWN_TARGETS: &str = "crioxide";

pub(crate) struct LogLayer {
    threshold: Threshold,
    format: Format,
    sink: Sink,
}

impl LogLayer {
    pub(crate) fn new(threshold: Threshold, format: Format, sink: Sink) -> Self {
        Self {
            threshold,
            format,
            sink,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Spans carry the ids of the lines inside them, whatever level those have.
        if metadata.is_span() {
            return *metadata.level() <= tracing::Level::INFO
                || self.threshold.level().as_tracing() >= *metadata.level();
        }
        let limit = self.threshold.level();
        let foreign = !metadata.target().starts_with(OWN_TARGETS);
        let limit = if foreign && limit != Level::Trace {
            limit.min(Level::Warn)
        } else {
            limit
        };
        limit.as_tracing() >= *metadata.level()
    }

    fn write(&self, metadata: &Metadata<'_>, fields: &Fields, spans: &[(&'static str, Value)]) {
        let limit = self.threshold.level();
        let level = if fields.fatal {
            Level::Fatal
        } else {
            Level::of(*metadata.level())
        };
        if level > limit || !self.threshold.lets_pass(&fields.message) {
            return;
        }
        let position = position(metadata)
            .filter(|_| limit >= Level::Debug)
            .map(Value::from);
        let mut sorted: Vec<(&str, &Value)> = fields
            .others
            .iter()
            .map(|(name, value)| (*name, value))
            .collect();
        for (name, value) in spans {
            if !sorted.iter().any(|(known, _)| known == name) {
                sorted.push((name, value));
            }
        }
        if let Some(position) = &position {
            sorted.push(("file", position));
        }
        sorted.sort_by_key(|(name, _)| *name);
        let line = Line {
            time: Zoned::now()
                .strftime("%Y-%m-%dT%H:%M:%S.%9f%:z")
                .to_string()
                .replace("+00:00", "Z"),
            level,
            message: &fields.message,
            fields: sorted,
        };
        let encoded = match self.format {
            Format::Text => text::encode(&line),
            Format::Json => json::encode(&line),
        };
        self.sink.write(encoded.as_bytes());
    }
}

/// Source file below its crate's folder, and line.
fn position(metadata: &Metadata<'_>) -> Option<String> {
    let file = metadata.file()?;
    let short = file.strip_prefix("crates/").unwrap_or(file);
    Some(format!("{short}:{}", metadata.line()?))
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.threshold.level().as_tracing().max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // From the outermost span inwards: the rpc's own `id` and `name` are not overridden by what it calls.
        let mut around: Vec<(&'static str, Value)> = Vec::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(recorded) = span.extensions().get::<Fields>() {
                for (name, value) in &recorded.others {
                    if !around.iter().any(|(known, _)| known == name) {
                        around.push((name, value.clone()));
                    }
                }
            }
        }
        self.write(event.metadata(), &fields, &around);
    }
}
