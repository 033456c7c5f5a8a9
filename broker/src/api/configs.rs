//! DescribeConfigs, for topics.

use std::collections::HashSet;

use highwater_config::TopicSettingSource;
use highwater_coordination::controller::ControllerError;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages::{
    ConfigDescription, ConfigSource, DescribeConfigsRequest, DescribeConfigsResponse, TopicConfigs,
};

use crate::controller::ChangeError;
use crate::partitions::Refusal;
use crate::shared::Shared;

pub(crate) fn describe(
    shared: &Shared,
    request: &DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Refusal> {
    // A name asked for many times is answered once.
    let mut seen = HashSet::new();
    let names = request.topics.iter().filter(|name| seen.insert(*name));
    let topics = names.map(
        |name| match described(shared, name, request.keys.as_deref()) {
            Ok(configs) => TopicConfigs {
                name: name.clone(),
                error: ErrorCode::None,
                message: None,
                configs,
            },
            Err(error) => TopicConfigs {
                name: name.clone(),
                error: error.code(),
                message: Some(error.to_string()),
                configs: Vec::new(),
            },
        },
    );
    Ok(DescribeConfigsResponse {
        topics: topics.collect(),
    })
}

fn described(
    shared: &Shared,
    name: &str,
    keys: Option<&[String]>,
) -> Result<Vec<ConfigDescription>, ChangeError> {
    let image = shared.metadata.image();
    let topic = image
        .topic(name)
        .ok_or_else(|| ControllerError::UnknownTopic {
            name: name.to_owned(),
        })?;
    let settings = shared.topic_settings.describe(&topic.configs)?;
    let wanted = settings
        .into_iter()
        .filter(|setting| keys.is_none_or(|keys| keys.iter().any(|key| key == setting.key)));
    Ok(wanted
        .map(|setting| ConfigDescription {
            key: setting.key.to_owned(),
            value: setting.value,
            source: match setting.source {
                TopicSettingSource::Default => ConfigSource::Default,
                TopicSettingSource::Broker => ConfigSource::Broker,
                TopicSettingSource::Topic => ConfigSource::Topic,
            },
            doc: setting.doc.to_owned(),
        })
        .collect())
}
