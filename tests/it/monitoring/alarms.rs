//! A model of CloudWatch's alarms, as far as `template.yaml` uses them, and the rules that each alarm of it keeps. The
//! model is ours, made from CloudWatch's pages, and was never compared with the service. It does not know where metrics come from.

use crate::template;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

/// Seconds from one evaluation to the next. CloudWatch evaluates each minute.
pub const STEP: u64 = 300;
/// CloudWatch reads more periods than it evaluates, and skips those without data if it can. It does not say how many:
/// from none to six, the weeks differ only in the hour of `Silence`.
const MORE_PERIODS: usize = 2;
const DAY: u64 = 24 * 60 * 60;

/// The values of each metric, by the second, with how often each was written.
#[derive(Default)]
pub struct Metrics(BTreeMap<String, BTreeMap<u64, Vec<(f64, f64)>>>);

impl Metrics {
    pub fn put(&mut self, metric: &str, second: u64, value: f64, times: f64) {
        let values = self.0.entry(metric.to_owned()).or_default();
        values.entry(second).or_default().push((value, times));
    }

    fn statistic(&self, metric: &str, statistic: &str, seconds: Range<u64>) -> Option<f64> {
        let values = self.0.get(metric)?.range(seconds);
        let values = values.flat_map(|(_, values)| values.iter().copied());
        let first = values.clone().next()?.0;
        let count = || values.clone().map(|(_, times)| times).sum();
        let numbers = || values.clone().map(|(value, _)| value);
        Some(match statistic {
            "Sum" => values.map(|(value, times)| value * times).sum(),
            "SampleCount" => count(),
            "Minimum" => numbers().fold(first, f64::min),
            "Maximum" => numbers().fold(first, f64::max),
            "p99" => {
                let mut above = 0.01 * count();
                let mut sorted: Vec<_> = values.collect();
                sorted.sort_by(|one, other| other.0.total_cmp(&one.0));
                let at = sorted.iter().find(|(_, times)| {
                    above -= times;
                    above < 0.0
                });
                at?.0
            }
            other => panic!("the model has no statistic {other}"),
        })
    }

    fn has_begun(&self, metric: &str, now: u64) -> bool {
        self.0.get(metric).is_some_and(|values| values.range(..now).next().is_some())
    }
}

/// What the model is not told by the metrics.
#[derive(Clone, Copy)]
pub struct Settings {
    /// The parameter at a moment.
    pub throttling_rate: fn(u64) -> f64,
    /// Whether `FILL` makes values of a metric that never had data.
    pub is_filled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Insufficient,
    Ok,
    Alarm,
}

pub struct Alarm {
    pub name: String,
    /// Its class, `page` or `notice`.
    pub class: &'static str,
    tells_the_end: bool,
    /// Identifier, metric and statistic of each input.
    inputs: Vec<[String; 3]>,
    /// In tokens; empty if the alarm is on its one input.
    expression: Vec<String>,
    pub period: u64,
    periods: usize,
    enough: usize,
    is_below: bool,
    threshold: f64,
    missing: String,
}

/// All alarms of the template with the default parameters.
pub fn alarms() -> Vec<Alarm> {
    let alarms = template::of_type("AWS::CloudWatch::Alarm").into_iter();
    let read = |(name, properties): (String, Value)| {
        let alarm = read(&properties);
        // What shows all alarms of a stack finds them by their names.
        assert_eq!(format!("{}Alarm", alarm.name), name);
        alarm.check();
        alarm
    };
    alarms.map(read).collect()
}

/// The topic of a class of alarms, which the stack has only for an e-mail address.
fn receivers(class: &str) -> Value {
    let none = json!({ "Ref": "AWS::NoValue" });
    let own = json!({ "Fn::If": [format!("Has{class}Email"), [{ "Ref": format!("{class}Topic") }], none] });
    json!({ "Fn::If": [format!("Has{class}Topic"), [{ "Ref": format!("{class}TopicArn") }], own] })
}

fn read(alarm: &Value) -> Alarm {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let chosen = |value: &Value| value.get("Fn::If").map_or(value, |choice| &choice[1]).clone();
    let number = |value: &Value| match value["Ref"].as_str() {
        Some(name) => template::template()["Parameters"][name]["Default"].as_u64().unwrap(),
        None => value.as_u64().unwrap(),
    };
    let name_of = |metric: &Value| {
        let name = text(&metric["MetricName"]);
        let of_queue =
            |queue: &str| ("QueueName", json!({ "Fn::GetAtt": format!("{queue}.QueueName") }));
        // From the lists of metrics in each service's documentation.
        let (dimension, value) = match (text(&metric["Namespace"]).as_str(), name.as_str()) {
            ("PurchaselyClevertap", _) | ("AWS/Lambda", "Errors") => {
                ("FunctionName", json!({ "Ref": "Function" }))
            }
            ("AWS/ApiGateway", "Count") => ("ApiId", json!({ "Ref": "Api" })),
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible") => of_queue("DeadLetterQueue"),
            ("AWS/SQS", "ApproximateAgeOfOldestMessage") => of_queue("EventQueue"),
            other => panic!("{other:?}"),
        };
        assert_eq!(metric["Dimensions"], json!([{ "Name": dimension, "Value": value }]), "{name}");
        name
    };
    let queries: Vec<_> = alarm["Metrics"].as_array().into_iter().flatten().map(chosen).collect();
    let results = queries.iter().filter(|query| query["ReturnData"] != false).count();
    assert!(queries.len() <= 10 && results == usize::from(!queries.is_empty()), "{alarm}");
    let stats = queries.iter().filter(|query| query.get("MetricStat").is_some());
    let mut inputs: Vec<_> = stats
        .map(|query| {
            let stat = &query["MetricStat"];
            [text(&query["Id"]), name_of(&stat["Metric"]), text(&stat["Stat"])]
        })
        .collect();
    if queries.is_empty() {
        inputs.push(["value".to_owned(), name_of(alarm), text(&alarm["Statistic"])]);
    }
    let period = queries.first().map_or(&alarm["Period"], |query| &query["MetricStat"]["Period"]);
    let expression = queries.iter().find_map(|query| query.get("Expression")).map(|value| {
        let value = chosen(value);
        let value = value.get("Fn::Sub").unwrap_or(&value);
        tokens(&text(value).replace("${ThrottlingRate}", "throttling_rate"))
    });
    let periods = usize::try_from(number(&alarm["EvaluationPeriods"])).unwrap();
    let enough = alarm.get("DatapointsToAlarm").map(|count| count.as_u64().unwrap());
    let actions = |class: &&str| alarm["AlarmActions"] == receivers(class);
    let class = ["Alarm", "Notice"]
        .into_iter()
        .find(actions)
        .unwrap_or_else(|| panic!("{alarm}"));
    let end = alarm.get("OKActions");
    assert!(end.is_none_or(|end| *end == receivers(class)), "{alarm}");
    Alarm {
        name: text(&alarm["AlarmName"]["Fn::Sub"]).replace("${AWS::StackName}-", ""),
        class: if class == "Alarm" { "page" } else { "notice" },
        tells_the_end: end.is_some(),
        inputs,
        expression: expression.unwrap_or_default(),
        period: number(period),
        periods,
        enough: enough.map_or(periods, |count| usize::try_from(count).unwrap()),
        is_below: alarm["ComparisonOperator"] == "LessThanThreshold",
        threshold: alarm["Threshold"].as_f64().unwrap(),
        missing: text(&alarm["TreatMissingData"]),
    }
}

impl Alarm {
    /// CloudWatch evaluates a week at most, and a day in short periods.
    fn check(&self) {
        let longest = if self.period >= 3600 { 7 * DAY } else { DAY };
        let is_evaluated = self.period * u64::try_from(self.periods).unwrap() <= longest;
        assert!(is_evaluated && self.enough <= self.periods, "{}", self.name);
    }

    pub fn has_fill(&self) -> bool {
        self.expression.iter().any(|token| token == "FILL")
    }

    /// When it is announced, and when its end is.
    pub fn messages(&self, metrics: &Metrics, settings: Settings, end: u64) -> Vec<(u64, String)> {
        let times = || (0..=end).step_by(usize::try_from(STEP).unwrap());
        let values: Vec<_> = times().map(|time| self.value(metrics, settings, time)).collect();
        let stride = usize::try_from(self.period / STEP).unwrap();
        let mut state = State::Insufficient;
        let mut messages = Vec::new();
        for (index, time) in times().enumerate() {
            let read = (0..self.periods + MORE_PERIODS)
                .filter_map(|back| *values.get(index.checked_sub(back * stride)?)?);
            let next = self.state(&read.take(self.periods).collect::<Vec<_>>(), state);
            match next {
                State::Alarm if state != next => {
                    messages.push((time, format!("{} {}", self.class, self.name)));
                }
                State::Ok if state != next && self.tells_the_end => {
                    messages.push((time, format!("OK {}", self.name)));
                }
                _ => {}
            }
            state = next;
        }
        messages
    }

    /// The data point of the period that ends then.
    fn value(&self, metrics: &Metrics, settings: Settings, end: u64) -> Option<f64> {
        let seconds = end.saturating_sub(self.period)..end;
        let input = |id: &str| self.inputs.iter().find(|input| input[0] == id);
        let value = |id: &str| match id {
            "throttling_rate" => Some((settings.throttling_rate)(end)),
            id => {
                let [_, metric, statistic] = input(id).unwrap_or_else(|| panic!("no {id}"));
                metrics.statistic(metric, statistic, seconds.clone())
            }
        };
        let can_fill = |id: &str| {
            settings.is_filled
                || input(id).is_some_and(|[_, metric, _]| metrics.has_begun(metric, end))
        };
        if self.expression.is_empty() {
            return value("value");
        }
        let mut reader = Reader {
            rest: &self.expression,
            value: &value,
            can_fill: &can_fill,
        };
        let result = reader.any();
        assert!(
            reader.rest.is_empty(),
            "{}: the model does not understand {:?}",
            self.name,
            reader.rest
        );
        result
    }

    /// By the newest data points. See "Configuring how CloudWatch alarms treat missing data".
    fn state(&self, points: &[f64], before: State) -> State {
        let is_breaching = |point: &&f64| (**point < self.threshold) == self.is_below;
        let breaching = points.iter().filter(is_breaching).count();
        let missing = self.periods - points.len();
        match &*self.missing {
            "breaching" if breaching + missing >= self.enough => State::Alarm,
            _ if breaching >= self.enough => State::Alarm,
            "ignore" if breaching == points.len() => before,
            "breaching" | "notBreaching" | "ignore" => State::Ok,
            other => panic!("the model does not know {other}"),
        }
    }
}

/// Operators stand between spaces.
fn tokens(expression: &str) -> Vec<String> {
    let marks = ["(", ")", ","].into_iter();
    let spaced =
        marks.fold(expression.to_owned(), |text, mark| text.replace(mark, &format!(" {mark} ")));
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Evaluates an expression. What needs a value that is missing is missing.
struct Reader<'r> {
    rest: &'r [String],
    value: &'r dyn Fn(&str) -> Option<f64>,
    can_fill: &'r dyn Fn(&str) -> bool,
}

impl<'r> Reader<'r> {
    fn next(&mut self) -> &'r str {
        let (next, rest) = self.rest.split_first().expect("more of the expression");
        self.rest = rest;
        next
    }

    fn is_next(&mut self, token: &str) -> bool {
        let is_next = self.rest.first().is_some_and(|next| next == token);
        if is_next {
            self.next();
        }
        is_next
    }

    fn any(&mut self) -> Option<f64> {
        let mut result = self.comparison();
        while self.is_next("OR") {
            let other = self.comparison();
            result = result.zip(other).map(|(one, other)| f64::from(one + other > 0.0));
        }
        result
    }

    fn comparison(&mut self) -> Option<f64> {
        let one = self.product();
        let is_less = self.is_next("<");
        if !is_less && !self.is_next(">=") {
            return one;
        }
        let both = one.zip(self.product());
        both.map(|(one, other)| f64::from((one < other) == is_less))
    }

    fn product(&mut self) -> Option<f64> {
        let mut result = self.atom();
        while self.is_next("*") {
            result = result.zip(self.atom()).map(|(one, other)| one * other);
        }
        result
    }

    fn atom(&mut self) -> Option<f64> {
        let token = self.next();
        match token {
            "IF" => {
                assert_eq!(self.next(), "(");
                let test = self.any();
                assert_eq!(self.next(), ",");
                let then = self.any();
                // Without it the data point is dropped.
                let otherwise = if self.is_next(",") { self.any() } else { None };
                assert_eq!(self.next(), ")");
                if test? > 0.0 { then } else { otherwise }
            }
            "FILL" => {
                assert_eq!(self.next(), "(");
                let id = self.next();
                assert_eq!(self.next(), ",");
                let default = self.atom().filter(|_| (self.can_fill)(id));
                assert_eq!(self.next(), ")");
                (self.value)(id).or(default)
            }
            number => number.parse().ok().or_else(|| (self.value)(token)),
        }
    }
}
